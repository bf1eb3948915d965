package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	streamName   = "tasks"
	subject      = "tasks"
	consumerName = "workers"
)

func makePayload(bytes int) []byte {
	frame := len(`{"data":""}`)
	return []byte(`{"data":"` + strings.Repeat("x", max(0, bytes-frame)) + `"}`)
}

func connect(url string) (*nats.Conn, error) {
	return nats.Connect(url, nats.NoReconnect())
}

// createQueue makes a stream that keeps its messages, and the one consumer that all workers share.
func createQueue(ctx context.Context, conn *nats.Conn, opts options) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:               streamName,
		Subjects:           []string{subject},
		Storage:            jetstream.FileStorage,
		Retention:          jetstream.LimitsPolicy,
		AllowAtomicPublish: true,
	})
	if err != nil {
		return err
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		MaxAckPending: opts.batch * opts.workers(),
	})
	return err
}

type counts struct{ waiting, stored int }

// countTasks counts what is not acknowledged yet, and all that is stored.
func countTasks(ctx context.Context, conn *nats.Conn) (counts, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return counts{}, err
	}
	stream, err := js.Stream(ctx, streamName)
	if err != nil {
		return counts{}, err
	}
	consumer, err := stream.Consumer(ctx, consumerName)
	if err != nil {
		return counts{}, err
	}
	found := consumer.CachedInfo()
	return counts{
		waiting: int(found.NumPending) + found.NumAckPending,
		stored:  int(stream.CachedInfo().State.Msgs),
	}, nil
}

// producer submits from a connection of its own.
type producer struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

func newProducer(opts options) (*producer, error) {
	conn, err := connect(opts.url)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(opts.batch))
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &producer{conn: conn, js: js}, nil
}

func newProducers(opts options, count int) ([]*producer, error) {
	producers := make([]*producer, 0, count)
	for range count {
		made, err := newProducer(opts)
		if err != nil {
			closeAll(producers)
			return nil, err
		}
		producers = append(producers, made)
	}
	return producers, nil
}

func closeAll(producers []*producer) {
	for _, each := range producers {
		each.conn.Close()
	}
}

func (p *producer) submitOne(ctx context.Context, payload []byte) error {
	_, err := p.js.Publish(ctx, subject, payload)
	return err
}

func (p *producer) submitBatch(ctx context.Context, size int, payload []byte, atomic bool) error {
	if atomic {
		return p.submitAtomically(ctx, size, payload)
	}
	futures := make([]jetstream.PubAckFuture, size)
	for index := range futures {
		future, err := p.js.PublishAsync(subject, payload)
		if err != nil {
			return err
		}
		futures[index] = future
	}
	select {
	case <-p.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, future := range futures {
		select {
		case err := <-future.Err():
			return err
		default:
		}
	}
	return nil
}

// submitAtomically sends the messages of a batch, of which the server answers the last.
func (p *producer) submitAtomically(ctx context.Context, size int, payload []byte) error {
	batch := nuid.Next()
	for sequence := 1; ; sequence++ {
		message := &nats.Msg{Subject: subject, Data: payload, Header: nats.Header{
			"Nats-Batch-Id":       {batch},
			"Nats-Batch-Sequence": {strconv.Itoa(sequence)},
		}}
		if sequence < size {
			if err := p.conn.PublishMsg(message); err != nil {
				return err
			}
			continue
		}
		message.Header.Set("Nats-Batch-Commit", "1")
		answer, err := p.conn.RequestMsgWithContext(ctx, message)
		if err != nil {
			return err
		}
		if !strings.Contains(string(answer.Data), `"count":`+strconv.Itoa(size)) {
			return errors.New("a batch was not stored: " + string(answer.Data))
		}
		return nil
	}
}
