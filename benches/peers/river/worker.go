package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

// worker is a running client whose completions can be waited for.
type worker struct {
	client    *river.Client[pgx.Tx]
	pool      *pgxpool.Pool
	completed <-chan *river.Event
}

// startWorker starts a client that sees up to tasks completions.
func startWorker(ctx context.Context, opts options, tasks int, onStart func()) (*worker, error) {
	pool, err := openPool(ctx, opts.url, workerConnections)
	if err != nil {
		return nil, err
	}
	client, err := newClient(pool, onStart)
	if err != nil {
		return nil, err
	}
	// River drops events that find the channel full.
	completed, _ := client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: tasks,
		Kinds:    []river.EventKind{river.EventKindJobCompleted},
	})
	if err := client.Start(ctx); err != nil {
		return nil, err
	}
	return &worker{client: client, pool: pool, completed: completed}, nil
}

// settled waits for this many completions; River tells of one when it is committed.
func (w *worker) settled(tasks int) error {
	for range tasks {
		if event := <-w.completed; event == nil {
			return errors.New("the client stopped before all tasks were done")
		}
	}
	return nil
}

func (w *worker) stop(ctx context.Context) error {
	defer w.pool.Close()
	return w.client.Stop(ctx)
}
