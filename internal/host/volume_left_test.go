package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"libvirt.org/go/libvirtxml"
)

func TestLeftNodes(t *testing.T) {
	live := &libvirtxml.Domain{}
	if err := live.Unmarshal(`<domain type='qemu'><devices>
		<disk type='file' device='disk'><source file='/v/disk-a.qcow2' index='4'/>
			<backingStore type='file' index='5'><source file='/i/image.qcow2'/><backingStore/></backingStore>
			<mirror type='file'><source file='/v/copy.qcow2' index='9'/></mirror><target dev='vda'/></disk>
		<disk type='file' device='cdrom'><target dev='sda'/></disk>
		<controller type='pci' index='7' model='pcie-root-port'/>
	</devices></domain>`); err != nil {
		t.Fatal(err)
	}
	names := []string{"libvirt-7-format", "libvirt-7-storage", "libvirt-4-format", "libvirt-4-storage", "libvirt-5-format", "libvirt-5-storage",
		"libvirt-9-storage", "libvirt-pflash0-format", "#block123", "libvirt-40-format"}
	if got, want := leftNodes(names, live), []string{"libvirt-7-format", "libvirt-7-storage", "libvirt-40-format"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

// A busy machine makes qemu-img give up on a new key now and then.
func TestKeyIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho >>" + dir + "/calls\n[ $(wc -l <" + dir + "/calls) -ge 3 ] && exit 0\necho '" + keyUnmetered + "' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "qemu-img"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if err := keyed(t.Context(), []byte("secret"), "create", "x"); err != nil {
		t.Error(err)
	}
	if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err != nil || len(calls) != 3 {
		t.Errorf("%d calls, %v", len(calls), err)
	}
}
