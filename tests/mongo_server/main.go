// Command mongo_server is a MongoDB server for tests, on loopback, for machines without MongoDB.
//
// It is FerretDB on SQLite behind a gate. FerretDB speaks MongoDB's wire protocol, but its updates are not
// atomic: two conditional updates of one document can both win. MongoDB promises that only one does, so the
// gate lets a single command run at a time. It is built with patch/, without which every conditional update would
// read its whole collection. Slow on large collections still; meant for semantics, not for numbers.
//
// When it serves, it prints one line on standard output: {"uri": "mongodb://127.0.0.1:PORT/"}.
// It exits on SIGTERM and when its standard input closes, so it never outlives the process that started it.
// What was answered is in the data directory, however the process ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// Names inside the data directory. The process works there, so that neither the length of the directory's
// path (a Unix socket's is limited to about 100 bytes) nor any character in it matters.
const (
	lockFile     = "lock"
	socketFile   = "ferretdb.sock"
	databasesDir = "databases"
)

// What FerretDB uses by default.
const sqliteURL = "file:" + databasesDir + "/"

// Without a sync per write FerretDB is faster, and still loses nothing when it is killed; only a power failure
// could take data, which no test depends on.
const unsynced = "?_pragma=synchronous(off)"

func main() {
	dataDir := flag.String("data-dir", "", "directory that holds all data; made if missing (required)")
	port := flag.Int("port", 0, "TCP port on 127.0.0.1; 0 takes a free one")
	bare := flag.Bool("bare", false, "serve FerretDB itself, without the gate: its updates are not atomic")
	flag.Parse()

	if err := run(*dataDir, fmt.Sprintf("127.0.0.1:%d", *port), *bare); err != nil {
		fmt.Fprintln(os.Stderr, "mongo_server:", err)
		os.Exit(1)
	}
}

// run serves on address until SIGTERM or the end of standard input.
func run(dataDir, address string, bare bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	if err := enter(dataDir); err != nil {
		return err
	}

	config := ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: socketFile},
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Handler:   "sqlite",
		SQLiteURL: sqliteURL + unsynced,
	}
	if bare {
		config.Listener = ferretdb.ListenerConfig{TCP: address}
		config.SQLiteURL = sqliteURL
	}
	database, err := ferretdb.New(&config)
	if err != nil {
		return err
	}

	failed := make(chan error, 1)
	// Never cancelled: FerretDB would wait for its clients to leave, and there is nothing to wait for.
	go func() { failed <- database.Run(context.Background()) }()

	var uri string
	if bare {
		uri = database.MongoDBURI()
	} else {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		uri = "mongodb://" + listener.Addr().String() + "/"
		go func() { failed <- (&gate{backend: socketFile}).serve(listener) }()
	}
	fmt.Printf("{\"uri\": %q}\n", uri)

	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return fmt.Errorf("stopped serving: %w", err)
	}
}

// enter makes dataDir the working directory and this process its only owner.
func enter(dataDir string) error {
	if dataDir == "" {
		return errors.New("--data-dir is required")
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return err
	}
	if err := os.Chdir(dataDir); err != nil {
		return err
	}
	lock, err := syscall.Open(lockFile, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	// The descriptor stays open: the system gives the lock back when the process ends, killed or not.
	if err := syscall.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another server: %w", dataDir, err)
	}
	// A killed predecessor leaves its socket behind.
	if err := os.Remove(socketFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.MkdirAll(databasesDir, 0o700)
}
