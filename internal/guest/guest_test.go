package guest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// SHA-512 crypt of "Correct-Horse-9" (mkpasswd -m sha512).
const (
	password       = "Correct-Horse-9"
	hashedPassword = "$6$saltysalt$t4OsmSj4LwF5SIPUmfzeWy3tmDFUbePlEVm7Uxtau8z.GOBhY14TPKPOEDn048oBLYcozsLeLxFW5EO6p/jCa."
)

func cacheDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../.cache/guest")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTinyIsCachedAndReproducible(t *testing.T) {
	needPrograms(t)
	ctx := context.Background()
	first, err := Tiny(ctx, Options{Cache: cacheDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	again, err := Tiny(ctx, Options{Cache: cacheDir(t), Log: &log})
	if err != nil || again != first || log.Len() > 0 {
		t.Fatalf("second build: %+v %v, log %q; want the cached %+v and silence", again, err, &log, first)
	}
	// Built anew from the same package it is the same file.
	fresh := t.TempDir()
	if err := os.Symlink(filepath.Join(cacheDir(t), "packages"), filepath.Join(fresh, "packages")); err != nil {
		t.Fatal(err)
	}
	anew, err := Tiny(ctx, Options{Cache: fresh})
	if err != nil || anew.Digest != first.Digest {
		t.Errorf("built anew: digest %s, %v; want %s", anew.Digest, err, first.Digest)
	}
	if first.Size > 30<<20 {
		t.Errorf("image has %d bytes, more than 30 MiB", first.Size)
	}
}

// TestTinyBoots starts the image as a host does and looks at it from outside.
func TestTinyBoots(t *testing.T) {
	needPrograms(t)
	image, err := Tiny(context.Background(), Options{Cache: cacheDir(t), Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	authorized := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))

	const data = "fs_setup:\n    - label: data\n      filesystem: ext4\n      device: /dev/disk/by-id/virtio-disk-abc123\n      overwrite: false\n"
	config := fmt.Sprintf("#cloud-config\n"+data+"users:\n  - name: root\n    lock_passwd: false\n    hashed_passwd: '%s'\n    ssh_authorized_keys:\n      - %s\n", hashedPassword, authorized)
	script := "#!/bin/sh\necho ran >>/state/user-script\n"
	userData := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=====b=\"\r\n\r\n" +
		"--=====b=\r\nContent-Type: text/cloud-config\r\n\r\n" + config + "\r\n" +
		"--=====b=\r\nContent-Type: text/x-shellscript\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(script)) + "\r\n--=====b=--\r\n"
	vm := boot(t, image.Path, "instance-id: vm-abc123\nlocal-hostname: web-1\n", userData)

	vm.waitSSH(t)
	page := vm.get(t, "/")
	for _, want := range []string{"host=web-1\n", "id=vm-abc123\n", "boots=1\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("page lacks %q:\n%s", want, page)
		}
	}
	if info := vm.get(t, "/cgi-bin/info"); !strings.Contains(info, "address=eth0 10.0.2.15/24") {
		t.Errorf("info lacks the address:\n%s", info)
	}
	if got := vm.ssh(t, ssh.PublicKeys(signer), "hostname; cat /etc/hostname 2>/dev/null; id -u"); got != "web-1\n0\n" {
		t.Errorf("by key: %q", got)
	}
	if got := vm.ssh(t, ssh.Password(password), "cat /state/user-script"); got != "ran\n" {
		t.Errorf("by password, the tenant's script: %q", got)
	}
	if _, err := vm.dial(ssh.Password("wrong")); err == nil {
		t.Error("a wrong password opened the door")
	}
	if got := vm.ssh(t, ssh.PublicKeys(signer), "stat -c %a /etc/shadow /state/shadow"); got != "600\n600\n" {
		t.Errorf("modes of the password files: %q", got)
	}

	if got := vm.ssh(t, ssh.PublicKeys(signer), "cut -d' ' -f2,3 /proc/mounts | grep data; echo kept >/data/file"); got != "/data ext4\n" {
		t.Errorf("the data disk: %q", got)
	}

	// Reboot by the agent, with a seed that no longer holds the password: it still opens.
	vm.seed(t, "instance-id: vm-abc123\nlocal-hostname: web-1\n", "#cloud-config\n"+data)
	vm.agent(t, "guest-shutdown", map[string]any{"mode": "reboot"})
	vm.waitPage(t, "boots=2\n")
	vm.waitSSH(t)
	if got := vm.ssh(t, ssh.Password(password), "cat /data/file"); got != "kept\n" {
		t.Errorf("after a reboot, the file on the data disk: %q", got)
	}
	if got := vm.ssh(t, ssh.Password(password), "cat /state/user-script"); got != "ran\n" {
		t.Errorf("after a reboot, the tenant's script: %q, want it to have run once", got)
	}
	vm.hostKeyStays(t)

	// Power button.
	vm.qmp(t, "system_powerdown")
	select {
	case <-vm.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("the power button did nothing for 30 s")
	}
}

func needPrograms(t *testing.T) {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img", "genisoimage", "syslinux", "mcopy", "dropbear", "qemu-ga"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
}

type machine struct {
	dir      string
	web, shl string // loopback addresses of ports 80 and 22
	exited   chan struct{}
	hostKeys []string
}

func boot(t *testing.T, image, metaData, userData string) *machine {
	t.Helper()
	vm := &machine{dir: t.TempDir(), web: freePort(t), shl: freePort(t), exited: make(chan struct{})}
	vm.seed(t, metaData, userData)
	if _, err := run(context.Background(), vm.dir, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, "disk.qcow2"); err != nil {
		t.Fatal(err)
	}
	if err := truncated(filepath.Join(vm.dir, "data.raw"), 1<<30); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("qemu-system-x86_64", "-M", "q35", "-nodefaults", "-accel", "tcg,tb-size=32", "-m", "128", "-display", "none",
		"-serial", "file:serial.log", "-qmp", "unix:qmp.sock,server=on,wait=off",
		"-drive", "if=none,id=d,file=disk.qcow2,format=qcow2", "-device", "virtio-blk-pci,drive=d,bootindex=1",
		"-drive", "if=none,id=s,file=seed.iso,format=raw,readonly=on,file.locking=off", "-device", "virtio-blk-pci,drive=s",
		"-drive", "if=none,id=e,file=data.raw,format=raw", "-device", "virtio-blk-pci,drive=e,serial=disk-abc123",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=a,path=agent.sock,server=on,wait=off",
		"-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0",
		"-netdev", fmt.Sprintf("user,id=n,restrict=on,hostfwd=tcp:%s-:80,hostfwd=tcp:%s-:22", vm.web, vm.shl),
		"-device", "virtio-net-pci,netdev=n,romfile=")
	cmd.Dir, cmd.Stderr = vm.dir, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	go func() { _ = cmd.Wait(); close(vm.exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-vm.exited
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(vm.dir, "serial.log"))
			t.Logf("serial console:\n%s", log)
		}
	})
	vm.waitPage(t, "ip=10.0.2.15")
	t.Logf("page after %.1f s", time.Since(start).Seconds())
	return vm
}

func (vm *machine) seed(t *testing.T, metaData, userData string) {
	t.Helper()
	in := filepath.Join(vm.dir, "seed")
	if err := os.MkdirAll(in, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"meta-data": metaData, "user-data": userData} {
		if err := os.WriteFile(filepath.Join(in, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run(context.Background(), vm.dir, "genisoimage", "-quiet", "-V", "cidata", "-J", "-R", "-o", "seed.iso", "seed"); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (vm *machine) fetch(path string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + vm.web + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func (vm *machine) get(t *testing.T, path string) string {
	t.Helper()
	body, err := vm.fetch(path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// waitPage waits at most 90 s (a busy machine, TCG) for a page that holds want.
func (vm *machine) waitPage(t *testing.T, want string) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for time.Now().Before(deadline) {
		if body, err := vm.fetch("/"); err == nil && strings.Contains(body, want) {
			return
		}
		select {
		case <-vm.exited:
			t.Fatal("QEMU ended")
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("no page with %q", want)
}

// waitSSH waits until the guest greets: dropbear makes its key after the page is up.
func (vm *machine) waitSSH(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", vm.shl, time.Second)
		if err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		greeting, _ := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if strings.HasPrefix(greeting, "SSH-2.0-") {
			return
		}
	}
	t.Fatal("no greeting on port 22")
}

func (vm *machine) dial(auth ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", vm.shl, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{auth}, Timeout: 20 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			vm.hostKeys = append(vm.hostKeys, ssh.FingerprintSHA256(key))
			return nil
		}})
}

func (vm *machine) ssh(t *testing.T, auth ssh.AuthMethod, command string) string {
	t.Helper()
	client, err := vm.dial(auth)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

func (vm *machine) hostKeyStays(t *testing.T) {
	t.Helper()
	for _, key := range vm.hostKeys {
		if key != vm.hostKeys[0] {
			t.Errorf("the host key changed: %v", vm.hostKeys)
		}
	}
}

// agent sends one command to qemu-guest-agent; a shutdown has no answer.
func (vm *machine) agent(t *testing.T, command string, arguments map[string]any) {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(vm.dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	answers := bufio.NewReader(conn)
	fmt.Fprintln(conn, `{"execute":"guest-ping"}`)
	if answer, err := answers.ReadString('\n'); err != nil || strings.TrimSpace(answer) != `{"return": {}}` {
		t.Fatalf("guest-ping: %q %v", answer, err)
	}
	line, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

func (vm *machine) qmp(t *testing.T, command string) {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(vm.dir, "qmp.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	answers := bufio.NewReader(conn)
	for _, line := range []string{"", `{"execute":"qmp_capabilities"}`, `{"execute":"` + command + `"}`} {
		if line != "" {
			fmt.Fprintln(conn, line)
		}
		if answer, err := answers.ReadString('\n'); err != nil || strings.Contains(answer, `"error"`) {
			t.Fatalf("QMP %s: %q %v", line, answer, err)
		}
	}
}
