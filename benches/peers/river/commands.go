package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"
)

const (
	warmUpTasks   = 20_000
	warmUpSamples = 100
	// Lets the last task's settlement end, so that each sample meets an idle system.
	rest = 5 * time.Millisecond
)

type bench struct {
	options
	// pool is for counting, beside the measured connections.
	pool *pgxpool.Pool
}

func (b bench) run(ctx context.Context) (any, error) {
	switch b.command {
	case "prepare":
		return b.prepare(ctx)
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

func (b bench) prepare(ctx context.Context) (any, error) {
	if err := migrate(ctx, b.pool); err != nil {
		return nil, err
	}
	return map[string]bool{"prepared": true}, b.refreshStatistics(ctx)
}

func (b bench) enqueue(ctx context.Context) (any, error) {
	return b.withInserter(ctx, b.producers, func(client *river.Client[pgx.Tx]) (any, error) {
		watch := startStopwatch()
		err := b.submitBatches(ctx, client)
		return rateOf(b.tasks, watch.stop()), err
	})
}

func (b bench) drain(ctx context.Context) (any, error) {
	found, err := countTasks(ctx, b.pool)
	if err != nil {
		return nil, err
	}
	if found.waiting != b.tasks {
		return nil, fmt.Errorf("expected %d waiting tasks, found %d", b.tasks, found.waiting)
	}
	if err := b.refreshStatistics(ctx); err != nil {
		return nil, err
	}
	took, err := b.drainBacklog(ctx, found)
	return rateOf(b.tasks, took), err
}

func (b bench) life(ctx context.Context) (any, error) {
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	before, err := countTasks(ctx, b.pool)
	if err != nil {
		return nil, err
	}
	return b.withInserter(ctx, b.producers, func(client *river.Client[pgx.Tx]) (any, error) {
		work, err := startWorker(ctx, b.options, b.tasks, func() {})
		if err != nil {
			return nil, err
		}
		watch := startStopwatch()
		if err := b.submitBatches(ctx, client); err != nil {
			return nil, err
		}
		if err := work.settled(b.tasks); err != nil {
			return nil, err
		}
		took := watch.stop()
		if err := work.stop(ctx); err != nil {
			return nil, err
		}
		return rateOf(b.tasks, took), b.requireSettled(ctx, before, b.tasks)
	})
}

func (b bench) unary(ctx context.Context) (any, error) {
	return b.withInserter(ctx, b.callers, func(client *river.Client[pgx.Tx]) (any, error) {
		payload := makePayload(b.payload)
		var taken atomic.Int64
		group, ctx := errgroup.WithContext(ctx)
		watch := startStopwatch()
		for range b.callers {
			group.Go(func() error {
				for taken.Add(1) <= int64(b.tasks) {
					if _, err := client.Insert(ctx, payload, nil); err != nil {
						return err
					}
				}
				return nil
			})
		}
		err := group.Wait()
		return rateOf(b.tasks, watch.stop()), err
	})
}

func (b bench) latency(ctx context.Context) (any, error) {
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	// Without this, each fetch would walk past what the warm-up has left in the index.
	if err := b.refreshStatistics(ctx); err != nil {
		return nil, err
	}
	starts := make(chan time.Time, 1)
	work, err := startWorker(ctx, b.options, warmUpSamples+b.samples, func() { starts <- time.Now() })
	if err != nil {
		return nil, err
	}
	payload := makePayload(b.payload)
	var samples []time.Duration
	for sample := range warmUpSamples + b.samples {
		begin := time.Now()
		if _, err := work.client.Insert(ctx, payload, nil); err != nil {
			return nil, err
		}
		started := <-starts
		if sample >= warmUpSamples {
			samples = append(samples, started.Sub(begin))
		}
		time.Sleep(rest)
	}
	return percentilesOf(samples), work.stop(ctx)
}

// warmUp leaves no task waiting and statistics of a table in use.
// Plans made for an empty table would be kept, and would be far too slow for a full one.
func (b bench) warmUp(ctx context.Context) error {
	warm := b
	warm.tasks = warmUpTasks
	if _, err := warm.enqueue(ctx); err != nil {
		return err
	}
	if err := b.refreshStatistics(ctx); err != nil {
		return err
	}
	found, err := countTasks(ctx, b.pool)
	if err != nil {
		return err
	}
	_, err = b.drainBacklog(ctx, found)
	return err
}

// drainBacklog works off what waits and checks that nothing was lost.
func (b bench) drainBacklog(ctx context.Context, found counts) (time.Duration, error) {
	// Connections are opened as the client starts, so the clock begins a little early.
	watch := startStopwatch()
	work, err := startWorker(ctx, b.options, found.waiting, func() {})
	if err != nil {
		return 0, err
	}
	if err := work.settled(found.waiting); err != nil {
		return 0, err
	}
	took := watch.stop()
	if err := work.stop(ctx); err != nil {
		return 0, err
	}
	return took, b.requireSettled(ctx, found, found.waiting)
}

func (b bench) requireSettled(ctx context.Context, before counts, tasks int) error {
	found, err := countTasks(ctx, b.pool)
	if err != nil {
		return err
	}
	if settled := found.finished - before.finished; found.waiting != 0 || settled != tasks {
		return fmt.Errorf("%d tasks are left and %d of %d are finished", found.waiting, settled, tasks)
	}
	return nil
}

func (b bench) submitBatches(ctx context.Context, client *river.Client[pgx.Tx]) error {
	payload := makePayload(b.payload)
	var taken atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range b.producers {
		group.Go(func() error {
			for {
				end := int(taken.Add(int64(b.batch)))
				size := min(b.batch, b.tasks-(end-b.batch))
				if size <= 0 {
					return nil
				}
				if err := submitBatch(ctx, client, size, payload, b.copyIn); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func (b bench) refreshStatistics(ctx context.Context) error {
	_, err := b.pool.Exec(ctx, "VACUUM ANALYZE")
	return err
}

// withInserter lends a client that has a connection for each caller.
func (b bench) withInserter(
	ctx context.Context,
	connections int,
	use func(*river.Client[pgx.Tx]) (any, error),
) (any, error) {
	pool, err := openPool(ctx, b.url, connections)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	client, err := newInserter(pool)
	if err != nil {
		return nil, err
	}
	return use(client)
}
