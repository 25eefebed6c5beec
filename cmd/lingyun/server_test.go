package main

import (
	"net"
	"os"
	"strconv"
	"testing"
)

func TestPassedSocket(t *testing.T) {
	if l, err := passedSocket(0); l != nil || err != nil {
		t.Fatalf("without a socket: %v, %v", l, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	got, err := passedSocket(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.Addr().String() != l.Addr().String() {
		t.Errorf("listens on %s, passed was %s", got.Addr(), l.Addr())
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := passedSocket(int(file.Fd())); err == nil {
		t.Error("a file was taken for a socket")
	}
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "2")
	if _, err := passedSocket(0); err == nil {
		t.Error("two sockets were taken for one")
	}
	t.Setenv("LISTEN_PID", "1")
	if l, err := passedSocket(0); l != nil || err != nil {
		t.Errorf("somebody else's sockets: %v, %v", l, err)
	}
}
