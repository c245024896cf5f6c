// River: plain jobs. The commands are those of driver.mjs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	workers = 1000 // goroutines, as in River's own benchmark
	chunk   = 2000 // jobs of one insert
)

type client struct {
	river  *river.Client[pgx.Tx]
	events <-chan *river.Event // of jobs whose completion is in the database
}

type Noop struct{}

func (Noop) Kind() string { return "noop" }

type Chain struct {
	Left int `json:"left"`
}

func (Chain) Kind() string { return "chain" }

type noopWorker struct{ river.WorkerDefaults[Noop] }

func (*noopWorker) Work(context.Context, *river.Job[Noop]) error { return nil }

type chainWorker struct{ river.WorkerDefaults[Chain] }

func (*chainWorker) Work(ctx context.Context, job *river.Job[Chain]) error {
	if job.Args.Left <= 1 {
		return nil
	}
	_, err := river.ClientFromContext[pgx.Tx](ctx).Insert(ctx, Chain{Left: job.Args.Left - 1}, nil)
	return err
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func connect(ctx context.Context) *pgxpool.Pool {
	config, err := pgxpool.ParseConfig(fmt.Sprintf("host=%s user=%s dbname=%s", os.Getenv("PGHOST"), os.Getenv("PGUSER"), os.Getenv("PGDATABASE")))
	must(err)
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(err)
	return pool
}

func newClient(ctx context.Context) *client {
	pool := connect(ctx)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	must(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	must(err)
	registry := river.NewWorkers()
	river.AddWorker(registry, &noopWorker{})
	river.AddWorker(registry, &chainWorker{})
	c, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger:            slog.New(slog.NewTextHandler(io.Discard, nil)),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		Workers:           registry,
		FetchCooldown:     2 * time.Millisecond,
		FetchPollInterval: 100 * time.Millisecond,
	})
	must(err)
	must(c.Start(ctx))
	// What does not fit into the channel is dropped, so all of a bulk must.
	events, _ := c.SubscribeConfig(&river.SubscribeConfig{ChanSize: 1 << 20, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	return &client{c, events}
}

func (c *client) bulk(ctx context.Context, n int) any {
	done := make(chan bool)
	begin := time.Now()
	go func() {
		for i := 0; i < n; i++ {
			<-c.events
		}
		done <- true
	}()
	for i := 0; i < n; i += chunk {
		params := make([]river.InsertManyParams, min(chunk, n-i))
		for k := range params {
			params[k] = river.InsertManyParams{Args: Noop{}}
		}
		_, err := c.river.InsertManyFast(ctx, params)
		must(err)
	}
	<-done
	return map[string]any{"seconds": time.Since(begin).Seconds(), "steps": n}
}

func (c *client) serial(ctx context.Context, n int) any {
	ms := make([]float64, 0, n)
	for i := 0; i < n; i++ {
		begin := time.Now()
		_, err := c.river.Insert(ctx, Chain{Left: 4}, nil)
		must(err)
		for k := 0; k < 4; k++ {
			<-c.events
		}
		ms = append(ms, float64(time.Since(begin).Microseconds())/1000)
	}
	return map[string]any{"ms": ms}
}

func main() {
	ctx := context.Background()
	c := newClient(ctx)
	commands := map[string]func(context.Context, int) any{"bulk": c.bulk, "serial": c.serial}
	fmt.Println(`{"ready": true}`)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var name string
		var n int
		_, err := fmt.Sscan(in.Text(), &name, &n)
		must(err)
		answer, err := json.Marshal(commands[name](ctx, n))
		must(err)
		fmt.Println(string(answer))
	}
	must(c.river.Stop(ctx))
}
