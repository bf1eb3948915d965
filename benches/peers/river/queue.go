package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	maxWorkers        = 1_000
	fetchCooldown     = 1 * time.Millisecond
	fetchPollInterval = 20 * time.Millisecond
	// What a client that works needs: fetches, completions, the leader and its listener.
	workerConnections = 10
)

// noop is a task that does nothing.
type noop struct {
	Data string `json:"data"`
}

func (noop) Kind() string { return "noop" }

func makePayload(bytes int) noop {
	frame := len(`{"data":""}`)
	return noop{Data: strings.Repeat("x", max(0, bytes-frame))}
}

func openPool(ctx context.Context, url string, connections int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return pool, pool.Ping(ctx)
}

func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: errorsOnly()})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// newClient makes a client that works tasks, and calls onStart as each starts.
func newClient(pool *pgxpool.Pool, onStart func()) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[noop]) error {
		onStart()
		return nil
	}))
	return river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown:     fetchCooldown,
		FetchPollInterval: fetchPollInterval,
		Logger:            errorsOnly(),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Workers:           workers,
	})
}

// newInserter makes a client that only inserts.
func newInserter(pool *pgxpool.Pool) (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: errorsOnly()})
}

func submitBatch(ctx context.Context, client *river.Client[pgx.Tx], size int, payload noop, copyIn bool) error {
	params := make([]river.InsertManyParams, size)
	for index := range params {
		params[index].Args = payload
	}
	if copyIn {
		_, err := client.InsertManyFast(ctx, params)
		return err
	}
	_, err := client.InsertMany(ctx, params)
	return err
}

type counts struct{ waiting, finished int }

func countTasks(ctx context.Context, pool *pgxpool.Pool) (counts, error) {
	var found counts
	err := pool.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE state <> 'completed'), count(*) FILTER (WHERE state = 'completed')
		FROM river_job`).Scan(&found.waiting, &found.finished)
	if err != nil {
		return counts{}, fmt.Errorf("counting tasks: %w", err)
	}
	return found, nil
}

func errorsOnly() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}
