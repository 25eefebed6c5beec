package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"
)

// poll waits until ok, at most for limit.
func poll(limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !poll(60*time.Second, ok) {
		t.Fatalf("never: %s", what)
	}
}

func fileDigest(t *testing.T, f *os.File) string {
	t.Helper()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// addresses of disks (by target) and interfaces (by MAC) in a definition, in the order that a guest finds them.
func addresses(t *testing.T, text string) map[string]string {
	t.Helper()
	x := &libvirtxml.Domain{}
	if err := x.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	put := func(name string, a *libvirtxml.DomainAddress) {
		if a != nil && a.PCI != nil {
			out[name] = fmt.Sprintf("%04x:%02x:%02x.%x", *a.PCI.Domain, *a.PCI.Bus, *a.PCI.Slot, *a.PCI.Function)
		}
	}
	for _, d := range x.Devices.Disks {
		put(d.Target.Dev, d.Address)
	}
	for _, n := range x.Devices.Interfaces {
		put(n.MAC.Address, n.Address)
	}
	return out
}
