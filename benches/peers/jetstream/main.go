// Runs one benchmark command against NATS JetStream and prints its figures.
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
	conn, err := connect(opts.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return bench{options: opts, conn: conn}.run(ctx)
}
