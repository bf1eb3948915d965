package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

type rate struct {
	Tasks   int     `json:"tasks"`
	Seconds float64 `json:"seconds"`
	PerS    float64 `json:"per_s"`
}

type percentiles struct {
	Samples int     `json:"samples"`
	P50     float64 `json:"p50_us"`
	P95     float64 `json:"p95_us"`
	P99     float64 `json:"p99_us"`
	Max     float64 `json:"max_us"`
}

// stopwatch tells the harness when its clock starts and stops, so that CPU is counted for the same time.
type stopwatch struct{ begin time.Time }

func startStopwatch() stopwatch {
	fmt.Println("clock starts")
	return stopwatch{begin: time.Now()}
}

func (s stopwatch) stop() time.Duration {
	took := time.Since(s.begin)
	fmt.Println("clock stops")
	return took
}

func rateOf(tasks int, took time.Duration) rate {
	return rate{Tasks: tasks, Seconds: took.Seconds(), PerS: math.Round(float64(tasks) / took.Seconds())}
}

func percentilesOf(samples []time.Duration) percentiles {
	slices.Sort(samples)
	at := func(share float64) float64 {
		index := int(math.Ceil(share*float64(len(samples)))) - 1
		return float64(samples[index].Microseconds())
	}
	return percentiles{Samples: len(samples), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1)}
}
