package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// Fetches at once where acknowledgements are not confirmed.
	fetchers = 4
	// Tasks at once where each acknowledgement waits for its answer.
	confirmers = 64
	// How often a wait for the end asks the server.
	lookAgain = 5 * time.Millisecond
	patience  = 5 * time.Minute
)

// workers is how many connections fetch and acknowledge.
func (o options) workers() int {
	if o.confirm {
		return confirmers
	}
	return fetchers
}

// fleet is some running workers, each with a connection of its own.
type fleet struct {
	conns   []*nats.Conn
	acked   atomic.Int64
	running sync.WaitGroup
	failure chan error
	cancel  context.CancelFunc
}

// startFleet starts workers that acknowledge whatever comes.
func startFleet(ctx context.Context, opts options) (*fleet, error) {
	// A fetch of more tasks than wait goes on for half a minute, so the context ends it.
	running, cancel := context.WithCancel(ctx)
	started := &fleet{failure: make(chan error, opts.workers()), cancel: cancel}
	for range opts.workers() {
		consumer, conn, err := openConsumer(ctx, opts.url)
		if err != nil {
			started.stop()
			return nil, err
		}
		started.conns = append(started.conns, conn)
		started.running.Go(func() {
			if err := started.work(running, consumer, opts); err != nil && running.Err() == nil {
				started.failure <- err
			}
		})
	}
	return started, nil
}

func openConsumer(ctx context.Context, url string) (jetstream.Consumer, *nats.Conn, error) {
	conn, err := connect(url)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	consumer, err := js.Consumer(ctx, streamName, consumerName)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return consumer, conn, nil
}

func (f *fleet) work(ctx context.Context, consumer jetstream.Consumer, opts options) error {
	for ctx.Err() == nil {
		messages, err := consumer.Fetch(opts.batch, jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		for message := range messages.Messages() {
			if err := acknowledge(ctx, message, opts.confirm); err != nil {
				return err
			}
			f.acked.Add(1)
		}
		if err := messages.Error(); err != nil {
			return err
		}
	}
	return nil
}

func acknowledge(ctx context.Context, message jetstream.Msg, confirm bool) error {
	if confirm {
		return message.DoubleAck(ctx)
	}
	return message.Ack()
}

// settled waits until this many acknowledgements were sent and the server has taken in all of them.
func (f *fleet) settled(ctx context.Context, conn *nats.Conn, tasks int) error {
	deadline := time.After(patience)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if f.acked.Load() >= int64(tasks) {
			found, err := countTasks(ctx, conn)
			if err != nil || found.waiting == 0 {
				return err
			}
		}
		select {
		case err := <-f.failure:
			return err
		case <-deadline:
			return errors.New("the tasks were not acknowledged in time")
		case <-tick.C:
		}
	}
}

func (f *fleet) stop() {
	f.cancel()
	for _, conn := range f.conns {
		conn.Close()
	}
	f.running.Wait()
}
