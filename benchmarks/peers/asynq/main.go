// asynq as a contender for scale: one step of a benchmark, as `benchmarks.peers.run` does it for Python libraries.
//
//	asynq enqueue --redis URL --tasks N
//	asynq work --redis URL --stamps FILE --concurrency N
//
// Tasks note the moment, as 8 bytes of CLOCK_MONOTONIC in nanoseconds: see `benchmarks/stamps.py`.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"
)

const nothing = "nothing"

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: asynq enqueue|work --redis URL …")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	url := flags.String("redis", "", "unix:///path/of/the/socket")
	tasks := flags.Int("tasks", 1, "how many to put in line")
	stamps := flags.String("stamps", "", "the file that moments are appended to")
	concurrency := flags.Int("concurrency", 1, "how many tasks to run at once")
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	redis := asynq.RedisClientOpt{Network: "unix", Addr: strings.TrimPrefix(*url, "unix://")}
	var err error
	switch os.Args[1] {
	case "enqueue":
		err = enqueue(redis, *tasks)
	case "work":
		err = work(redis, *stamps, *concurrency)
	default:
		err = fmt.Errorf("no such step: %s", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

func enqueue(redis asynq.RedisConnOpt, tasks int) error {
	client := asynq.NewClient(redis)
	defer client.Close()
	for range tasks {
		if _, err := client.Enqueue(asynq.NewTask(nothing, nil)); err != nil {
			return err
		}
	}
	fmt.Printf("{\"enqueued\": %d}\n", tasks)
	return nil
}

func work(redis asynq.RedisConnOpt, stamps string, concurrency int) error {
	file, err := os.OpenFile(stamps, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	server := asynq.NewServer(redis, asynq.Config{Concurrency: concurrency, LogLevel: asynq.ErrorLevel})
	return server.Run(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return err
		}
		_, err := file.Write(binary.LittleEndian.AppendUint64(nil, uint64(now.Nano())))
		return err
	}))
}
