// Runs one benchmark command against River and prints its figures.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	figures, err := run(context.Background(), os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(figures)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, words []string) (any, error) {
	opts, err := readOptions(words)
	if err != nil {
		return nil, err
	}
	pool, err := openPool(ctx, opts.url, 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	return bench{options: opts, pool: pool}.run(ctx)
}
