package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	warmUpTasks   = 20_000
	warmUpSamples = 100
	// Lets the last task's acknowledgement end, so that each sample meets an idle system.
	rest = 5 * time.Millisecond
)

type bench struct {
	options
	// conn is for counting, beside the measured connections.
	conn *nats.Conn
}

func (b bench) run(ctx context.Context) (any, error) {
	switch b.command {
	case "prepare":
		return map[string]bool{"prepared": true}, createQueue(ctx, b.conn, b.options)
	case "enqueue":
		return b.enqueue(ctx)
	case "drain":
		return b.drain(ctx)
	case "life":
		return b.life(ctx)
	case "unary":
		return b.unary(ctx)
	case "latency":
		return b.latency(ctx)
	default:
		return nil, fmt.Errorf("unknown command %q", b.command)
	}
}

func (b bench) enqueue(ctx context.Context) (any, error) {
	producers, err := newProducers(b.options, b.producers)
	if err != nil {
		return nil, err
	}
	defer closeAll(producers)
	watch := startStopwatch()
	err = b.submitBatches(ctx, producers)
	return rateOf(b.tasks, watch.stop()), err
}

func (b bench) drain(ctx context.Context) (any, error) {
	found, err := countTasks(ctx, b.conn)
	if err != nil {
		return nil, err
	}
	if found.waiting != b.tasks {
		return nil, fmt.Errorf("expected %d waiting tasks, found %d", b.tasks, found.waiting)
	}
	took, err := b.drainBacklog(ctx, found.waiting)
	return rateOf(b.tasks, took), err
}

func (b bench) life(ctx context.Context) (any, error) {
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	before, err := countTasks(ctx, b.conn)
	if err != nil {
		return nil, err
	}
	producers, err := newProducers(b.options, b.producers)
	if err != nil {
		return nil, err
	}
	defer closeAll(producers)
	workers, err := startFleet(ctx, b.options)
	if err != nil {
		return nil, err
	}
	defer workers.stop()
	watch := startStopwatch()
	if err := b.submitBatches(ctx, producers); err != nil {
		return nil, err
	}
	if err := workers.settled(ctx, b.conn, b.tasks); err != nil {
		return nil, err
	}
	took := watch.stop()
	after, err := countTasks(ctx, b.conn)
	if err != nil {
		return nil, err
	}
	if stored := after.stored - before.stored; stored != b.tasks {
		return nil, fmt.Errorf("%d of %d tasks are stored", stored, b.tasks)
	}
	return rateOf(b.tasks, took), nil
}

func (b bench) unary(ctx context.Context) (any, error) {
	producers, err := newProducers(b.options, b.callers)
	if err != nil {
		return nil, err
	}
	defer closeAll(producers)
	payload := makePayload(b.payload)
	var taken atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	watch := startStopwatch()
	for _, caller := range producers {
		group.Go(func() error {
			for taken.Add(1) <= int64(b.tasks) {
				if err := caller.submitOne(ctx, payload); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return rateOf(b.tasks, watch.stop()), err
}

func (b bench) latency(ctx context.Context) (any, error) {
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	caller, err := newProducer(b.options)
	if err != nil {
		return nil, err
	}
	defer caller.conn.Close()
	consumer, conn, err := openConsumer(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	starts := make(chan time.Time, 1)
	work, err := consumer.Consume(func(message jetstream.Msg) {
		starts <- time.Now()
		// A failure shows as a start that never comes again.
		_ = acknowledge(ctx, message, b.confirm)
	})
	if err != nil {
		return nil, err
	}
	defer work.Stop()
	payload := makePayload(b.payload)
	var samples []time.Duration
	for sample := range warmUpSamples + b.samples {
		begin := time.Now()
		if err := caller.submitOne(ctx, payload); err != nil {
			return nil, err
		}
		started := <-starts
		if sample >= warmUpSamples {
			samples = append(samples, started.Sub(begin))
		}
		time.Sleep(rest)
	}
	return percentilesOf(samples), nil
}

// warmUp lets tasks through, as it is done for every peer, and leaves none waiting.
func (b bench) warmUp(ctx context.Context) error {
	warm := b
	warm.tasks = warmUpTasks
	if _, err := warm.enqueue(ctx); err != nil {
		return err
	}
	_, err := b.drainBacklog(ctx, warmUpTasks)
	return err
}

// drainBacklog works off what waits.
func (b bench) drainBacklog(ctx context.Context, tasks int) (time.Duration, error) {
	// Connections are opened as the workers start, so the clock begins a little early.
	watch := startStopwatch()
	workers, err := startFleet(ctx, b.options)
	if err != nil {
		return 0, err
	}
	defer workers.stop()
	if err := workers.settled(ctx, b.conn, tasks); err != nil {
		return 0, err
	}
	return watch.stop(), nil
}

func (b bench) submitBatches(ctx context.Context, producers []*producer) error {
	payload := makePayload(b.payload)
	var taken atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, each := range producers {
		group.Go(func() error {
			for {
				end := int(taken.Add(int64(b.batch)))
				size := min(b.batch, b.tasks-(end-b.batch))
				if size <= 0 {
					return nil
				}
				if err := each.submitBatch(ctx, size, payload, b.atomic); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}
