// A minimal echo server on gorilla/websocket, to be measured beside ringback:
// `server PORT [HOST]`, HOST being 127.0.0.1. Each message is read whole and
// written back with its type, as the package's documentation does it, but into
// memory that the connection keeps. Go runs it on as many threads at a time as
// GOMAXPROCS says, one unless that is set.
// `server --version` prints its versions.
package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/gorilla/websocket"
)

// Bytes of a connection's buffers. The package's own 4 KiB read a message of
// 16 KiB at a fifth more CPU time; for short ones it makes no difference.
const bufferLen = 32 << 10

// The version of gorilla/websocket, which only the package manager knows: see
// setup.sh.
var library = "unknown"

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fail("usage: server PORT [HOST]")
	}
	if os.Args[1] == "--version" {
		fmt.Printf("gorilla/websocket %s, go %s\n", library, strings.TrimPrefix(runtime.Version(), "go"))
		return
	}
	if _, err := strconv.ParseUint(os.Args[1], 10, 16); err != nil {
		fail("usage: server PORT [HOST]")
	}
	host := "127.0.0.1"
	if len(os.Args) == 3 {
		host = os.Args[2]
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, os.Args[1]))
	if err != nil {
		fail(err.Error())
	}
	fmt.Printf("listening ws://%s\n", listener.Addr())
	fail(http.Serve(listener, http.HandlerFunc(serve)).Error())
}

// The whole life of a connection. The package answers pings and Close itself.
func serve(response http.ResponseWriter, request *http.Request) {
	upgrader := websocket.Upgrader{
		ReadBufferSize:  bufferLen,
		WriteBufferSize: bufferLen,
		CheckOrigin:     func(*http.Request) bool { return true },
	}
	connection, err := upgrader.Upgrade(response, request, nil)
	if err != nil {
		return // Upgrade has answered with an error.
	}
	defer connection.Close()
	var message bytes.Buffer
	for {
		kind, reader, err := connection.NextReader()
		if err != nil {
			return
		}
		message.Reset()
		if _, err := message.ReadFrom(reader); err != nil {
			return
		}
		if err := connection.WriteMessage(kind, message.Bytes()); err != nil {
			return
		}
	}
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(1)
}
