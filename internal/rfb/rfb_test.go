package rfb

import (
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"net"
	"testing"
	"time"
)

// pair is two ends of a connection that give up after a while.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	a, b = net.Pipe()
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

func TestPassword(t *testing.T) {
	for _, c := range []struct {
		server, client string
		want           error
	}{
		{"s3cretPw", "s3cretPw", nil},
		{"s3cretPw", "s3cretPW", ErrPassword},
		{"s3cretPw", "", ErrPassword},
	} {
		a, b := pair(t)
		served := make(chan error, 1)
		go func() { served <- Accept(a, c.server) }()
		if err := Connect(b, c.client); !errors.Is(err, c.want) {
			t.Errorf("%q to %q: the client sees %v", c.client, c.server, err)
		}
		if err := <-served; !errors.Is(err, c.want) {
			t.Errorf("%q to %q: the server sees %v", c.client, c.server, err)
		}
	}
}

// TestChallenge holds the cipher against an answer computed by another program (openssl enc -des-ecb with the
// key's bits reversed): password "COW", challenge 00 01 ... 0f.
func TestChallenge(t *testing.T) {
	var challenge [16]byte
	for i := range challenge {
		challenge[i] = byte(i)
	}
	if got := hex.EncodeToString(encrypt(challenge, "COW")); got != wantCOW {
		t.Errorf("answered %s, want %s", got, wantCOW)
	}
}

func TestScreenshot(t *testing.T) {
	picture := image.NewRGBA(image.Rect(0, 0, 5, 3))
	picture.Set(4, 2, color.RGBA{R: 10, G: 20, B: 30, A: 255})
	a, b := pair(t)
	go func() { _ = Screen(a, "test", picture) }()
	if err := Connect(b, ""); err != nil {
		t.Fatal(err)
	}
	got, err := Screenshot(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bounds() != picture.Bounds() || got.At(4, 2) != (color.RGBA{R: 10, G: 20, B: 30, A: 255}) || got.At(0, 0) != (color.RGBA{A: 255}) {
		t.Errorf("seen: %v %v %v", got.Bounds(), got.At(4, 2), got.At(0, 0))
	}
}

const wantCOW = "dc72fe4da173cc3f3c684d6637ed8c28"
