package main

import (
	"errors"
	"flag"
	"fmt"
)

// options is the command line that every peer program shares, and what is JetStream's own.
type options struct {
	command   string
	url       string
	tasks     int
	batch     int
	producers int
	payload   int
	callers   int
	samples   int
	// atomic submits each batch as an atomic one, which is stored as a whole or not at all.
	atomic bool
	// confirm waits for the server's answer to each acknowledgement.
	confirm bool
}

func readOptions(words []string) (options, error) {
	if len(words) == 0 {
		return options{}, errors.New("usage: jetstream COMMAND --url URL [OPTION]...")
	}
	opts := options{command: words[0]}
	flags := flag.NewFlagSet("jetstream", flag.ContinueOnError)
	flags.StringVar(&opts.url, "url", "", "the server")
	flags.IntVar(&opts.tasks, "tasks", 200_000, "how many tasks")
	flags.IntVar(&opts.batch, "batch", 1_000, "tasks in one call")
	flags.IntVar(&opts.producers, "producers", 4, "producers of batches at once")
	flags.IntVar(&opts.payload, "payload", 100, "bytes of a payload, about")
	flags.IntVar(&opts.callers, "callers", 64, "callers of single tasks at once")
	flags.IntVar(&opts.samples, "samples", 1_000, "samples of the latency")
	flags.BoolVar(&opts.atomic, "atomic", false, "submit each batch as a whole or not at all")
	flags.BoolVar(&opts.confirm, "confirm", false, "wait for the answer to each acknowledgement")
	if err := flags.Parse(words[1:]); err != nil {
		return options{}, err
	}
	if opts.url == "" || flags.NArg() != 0 {
		return options{}, errors.New("expected one command and --url")
	}
	for _, value := range []int{opts.tasks, opts.batch, opts.producers, opts.payload, opts.callers, opts.samples} {
		if value < 1 {
			return options{}, fmt.Errorf("every number must be above zero, not %d", value)
		}
	}
	return opts, nil
}
