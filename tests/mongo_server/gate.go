package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// Wire protocol: every message starts with four little-endian int32: its whole length, its id, the id it
// answers, and its kind; an OP_MSG goes on with its flags.
const (
	headerSize    = 16
	maxMessage    = 48_000_000
	opMsg         = 2013
	moreToComeBit = 1 << 1
)

// gate stands between clients and a server and lets one command of all connections run at a time, from
// its first byte to the last of its answer. That makes every command atomic.
//
// A client can only hold up others while its command runs: requests are read whole before the gate opens for
// them, and answers are written to the client after it has closed again. An answer never depends on another
// client's command (FerretDB offers no awaitable hello; nothing here reads tailable cursors), so it always comes.
type gate struct {
	backend string // path of the server's Unix socket
	turn    sync.Mutex
}

// serve accepts clients until listener fails, which is what it returns.
func (g *gate) serve(listener net.Listener) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go g.converse(client)
	}
}

// converse serves one client on a server connection of its own until either closes or breaks the protocol.
func (g *gate) converse(client net.Conn) {
	defer client.Close()

	server, err := net.Dial("unix", g.backend)
	if err != nil {
		return
	}
	defer server.Close()

	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		answer, err := g.ask(server, request)
		if err != nil {
			return
		}
		// FerretDB answers a request that wants no answer (w=0) too; its client would take that for the next one's.
		if moreToCome(request) {
			continue
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

// ask sends one request through the gate and returns its whole answer.
func (g *gate) ask(server net.Conn, request []byte) ([]byte, error) {
	g.turn.Lock()
	defer g.turn.Unlock()

	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	answer, err := readMessage(server)
	if err != nil {
		return nil, err
	}
	if moreToCome(answer) {
		return nil, fmt.Errorf("an answer in several messages: not supported")
	}
	return answer, nil
}

// readMessage reads one message, header included.
func readMessage(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(length[:])
	if size < headerSize || size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes: the protocol allows %d to %d", size, headerSize, maxMessage)
	}
	message := make([]byte, size)
	copy(message, length[:])
	_, err := io.ReadFull(from, message[len(length):])
	return message, err
}

// moreToCome tells whether the sender of message goes on without waiting for an answer.
func moreToCome(message []byte) bool {
	return len(message) >= headerSize+4 &&
		binary.LittleEndian.Uint32(message[headerSize-4:]) == opMsg &&
		binary.LittleEndian.Uint32(message[headerSize:])&moreToComeBit != 0
}
