package spice

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// through opens a channel through Open to a guest's screen.
func through(t *testing.T, guest io.ReadWriter, password string) (kind byte, ours, theirs error) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, KeyBits)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	for _, c := range []net.Conn{client, server} {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		kind, ours = Open(server, guest, "right", key)
		server.Close()
	}()
	theirs = Connect(client, Main, password)
	<-done
	return kind, ours, theirs
}

func TestOpen(t *testing.T) {
	for password, want := range map[string]error{"right": nil, "wrong": ErrPassword, "": ErrPassword, "rightly": ErrPassword} {
		near, far := net.Pipe()
		go func() { _ = Serve(far) }()
		kind, ours, theirs := through(t, near, password)
		if !errors.Is(ours, want) || !errors.Is(theirs, want) || kind != Main {
			t.Errorf("%q: channel %d, %v and %v", password, kind, ours, theirs)
		}
		near.Close()
		far.Close()
	}
}

// TestQEMU: the screen of a real QEMU lets us in, and through us those who know the password.
func TestQEMU(t *testing.T) {
	program, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	socket := filepath.Join(t.TempDir(), "spice")
	cmd := exec.CommandContext(t.Context(), program, "-machine", "q35", "-accel", "tcg", "-m", "32", "-S", "-display", "none", "-spice", "unix=on,addr="+socket+",disable-ticketing=on")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	dial := func() net.Conn {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			c, err := net.Dial("unix", socket)
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				return c
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	for password, want := range map[string]error{"right": nil, "wrong": ErrPassword} {
		guest := dial()
		kind, ours, theirs := through(t, guest, password)
		if !errors.Is(ours, want) || !errors.Is(theirs, want) || kind != Main {
			t.Errorf("%q: channel %d, %v and %v", password, kind, ours, theirs)
		}
		if want == nil { // the screen speaks now: a message's header
			if _, err := io.ReadFull(guest, make([]byte, 6)); err != nil {
				t.Error(err)
			}
		}
		guest.Close()
	}
}

func TestNotTheProtocol(t *testing.T) {
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "REDQ\x02\x00\x00\x00\x02\x00\x00\x00\xff\xff\xff\xff", "REDQ\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00x"} {
		client, server := net.Pipe()
		go func() { _, _ = client.Write([]byte(text)); client.Close() }()
		if _, err := Open(server, server, "right", nil); err == nil {
			t.Errorf("%q opens a channel", text)
		}
	}
}
