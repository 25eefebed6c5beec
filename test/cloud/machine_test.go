package cloud

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/crypto/ssh"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

// machines proves what is done to one machine: m lives through all of it, made of an image that a tenant uploaded;
// n, in another VPC, is made of m. fixed is a guest whose image takes no CPUs while it runs.
func machines(t *testing.T, c *cloud, fixed *machine) {
	drop := func(image string) { c.call(t, c.demo, "DeleteCustomImage", cli.Params{"ImageID": image}, nil) }
	uploaded := c.upload(t)
	defer drop(uploaded)
	loaded := c.load(t)
	defer drop(loaded)
	t.Run("uploads that become no images", func(t *testing.T) { refusals(t, c) })
	// Its guests take CPUs and memory while they run.
	c.call(t, c.demo, "UpdateImage", cli.Params{"CompanyID": c.company(t, c.demo), "ImageID": uploaded, "OSDistribution": "Debian", "OSType": "Linux", "OSVersion": "12",
		"SetArch": "x86_64", "SupportHotplug": true}, nil)
	var pair struct{ KeyPairID, KeyPairPrivateKey string }
	c.call(t, c.demo, "CreateKeyPair", cli.Params{"Name": "mine"}, &pair)
	script := "#!/bin/sh\necho from-user-data >/state/told\n" + strings.Repeat("# as long as user data may well be\n", 4000)
	m := c.create(t, c.demo, "m", 2, cli.Params{"ImageID": uploaded, "Hostname": "told-by-seed", "KeyPairIDs": []string{pair.KeyPairID},
		"OperatorName": "Bgp", "Bandwidth": 50, "UserData": base64.StdEncoding.EncodeToString([]byte(script)), "DNS": "198.51.100.53,198.51.100.54",
		"BootDiskSecret": base64.StdEncoding.EncodeToString([]byte("a key of a tenant"))})
	defer m.destroy(t)
	m.running(t)
	m.bought(t)
	m.page(t, m.eips[0].ip, 2*time.Minute)

	t.Run("a guest learns its name, key and user data", func(t *testing.T) {
		until(t, c, time.Minute, "a login by key", func() error { return m.opens(t, pair.KeyPairPrivateKey) })
		if out := m.must(t, "hostname; cat /state/told; [ -d /sys/firmware/efi ] || echo bios"); out != "told-by-seed\nfrom-user-data\nbios\n" {
			t.Errorf("it says %q", out)
		}
	})
	t.Run("a guest learns its name servers", func(t *testing.T) {
		if out := m.must(t, "cat /etc/resolv.conf"); out != "nameserver 198.51.100.53\nnameserver 198.51.100.54\n" {
			t.Errorf("it has %q", out)
		}
	})
	t.Run("screen and serial console", func(t *testing.T) { consoles(t, m) })
	t.Run("another password", func(t *testing.T) {
		c.call(t, c.demo, "ResetVMInstancePassword", cli.Params{"VMID": m.id, "Password": "Another-Horse-8"}, nil)
		m.takes(t, "Another-Horse-8", password)
	})
	t.Run("a key comes and goes", func(t *testing.T) {
		var later struct{ KeyPairID, KeyPairPrivateKey string }
		c.call(t, c.demo, "CreateKeyPair", cli.Params{"Name": "later"}, &later)
		in := cli.Params{"VMID": m.id, "KeyPairIDs": []string{later.KeyPairID}}
		c.call(t, c.demo, "BindKeyPair", in, nil)
		if err := m.opens(t, later.KeyPairPrivateKey); err != nil {
			t.Errorf("a new key: %v", err)
		}
		c.call(t, c.demo, "UnBindKeyPair", in, nil)
		if m.opens(t, later.KeyPairPrivateKey) == nil {
			t.Error("a key that was taken away is taken")
		}
	})
	t.Run("more CPUs and memory while it runs", func(t *testing.T) {
		cpus, before := m.has(t)
		if cpus != 1 || before == 0 {
			t.Fatalf("it begins with %d CPUs and %d KiB", cpus, before)
		}
		m.refuse(t, retcode.ImageNoHotplug, "ResizeVMConfig", cli.Params{"VMID": fixed.id, "CPU": 2, "Memory": 4096})
		c.call(t, c.demo, "ResizeVMConfig", cli.Params{"VMID": m.id, "CPU": 2, "Memory": 4096}, nil)
		m.state(t, "Running")
		until(t, c, 30*time.Second, "2 CPUs and 3 GiB more", func() error {
			cpus, now := m.has(t)
			if cpus != 2 || now < before+3000<<10 {
				return fmt.Errorf("%d CPUs, %d KiB, before %d", cpus, now, before)
			}
			return nil
		})
		m.refuse(t, retcode.VMNotStopped, "ResizeVMConfig", cli.Params{"VMID": m.id, "CPU": 1, "Memory": 2048})
	})
	boot := m.info(t, "boot_id")
	t.Run("a guest is asked to stop", func(t *testing.T) {
		m.must(t, "echo kept >/state/mark") // not synced: the guest does that when it is asked
		c.call(t, c.demo, "StopVMInstance", cli.Params{"VMID": m.id}, nil)
		m.state(t, "Stopped")
		if log := m.log(t); !strings.Contains(log, "GUEST-POWEROFF") {
			t.Errorf("its power was cut:\n%s", log)
		}
	})
	var made struct{ ImageID string }
	c.call(t, c.demo, "CreateCustomImage", cli.Params{"VMID": m.id, "ImageName": "golden"}, &made)
	c.made(t, made.ImageID)
	m.state(t, "Stopped")
	image := made.ImageID // encrypted, as m's system disk is
	defer drop(image)
	lab := c.lab(t)
	defer lab.remove(t, c)
	n := c.create(t, c.demo, "n", 1, cli.Params{"ImageID": image, "VPCID": lab.vpc, "SubnetID": lab.subnet, "OperatorName": "Bgp", "Bandwidth": 50})
	defer n.destroy(t)
	c.call(t, c.demo, "ResizeVMConfig", cli.Params{"VMID": m.id, "CPU": 1, "Memory": 2048}, nil)
	m.state(t, "Stopped")
	moved := m.ip[:strings.LastIndex(m.ip, ".")] + ".123"
	c.call(t, c.demo, "ReplaceIP", cli.Params{"ResourceID": m.id, "IP": moved}, nil)
	m.state(t, "Stopped")
	c.call(t, c.demo, "StartVMInstance", cli.Params{"VMID": m.id}, nil)
	m.page(t, m.eips[0].ip, 2*time.Minute)
	t.Run("another inner address", func(t *testing.T) {
		if m.running(t); m.ip != moved {
			t.Errorf("it is said to have %s", m.ip)
		}
		if out := m.must(t, "ip -o -4 addr show dev eth0"); !strings.Contains(out, " "+moved+"/24 ") {
			t.Errorf("the guest has\n%s", out)
		}
	})
	t.Run("fewer CPUs and memory after it was off", func(t *testing.T) {
		if cpus, memory := m.has(t); cpus != 1 || memory < 1800<<10 || memory > 2048<<10 {
			t.Errorf("it has %d CPUs and %d KiB", cpus, memory)
		}
	})
	n.running(t)
	n.bought(t)
	n.page(t, n.eips[0].ip, 2*time.Minute)
	t.Run("a new machine of the image", func(t *testing.T) {
		if out := n.must(t, "cat /state/mark; hostname"); out != "kept\n"+n.id+"\n" {
			t.Errorf("it says %q", out)
		}
		m.refuse(t, retcode.ImageInUse, "DeleteCustomImage", cli.Params{"ImageID": image})
	})
	t.Run("a link to an image's file", func(t *testing.T) {
		var link struct {
			Info struct{ DownloadQuery string }
		}
		c.call(t, c.demo, "GetImageDownloadURL", cli.Params{"ImageID": uploaded}, &link)
		answer, err := http.Get(link.Info.DownloadQuery)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		file, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(answer.Body); err != nil || !bytes.Equal(got, file) {
			t.Errorf("%d bytes, %v: not what was uploaded", len(got), err)
		}
	})
	t.Run("a machine that never stops", func(t *testing.T) {
		before := m.info(t, "boot_id")
		if before == boot {
			t.Fatal("it was not started anew")
		}
		m.killQEMU(t)
		until(t, c, 2*time.Minute, "a guest that came back", func() error {
			if m.info(t, "boot_id") == before {
				return errors.New("it is the same boot")
			}
			return nil
		})
		m.state(t, "Running")
		if out := m.must(t, "cat /state/mark"); out != "kept\n" {
			t.Errorf("its disk says %q", out)
		}
	})
	t.Run("discs are inserted and taken out", func(t *testing.T) { discs(t, m) })
	t.Run("one that may stop stays off", func(t *testing.T) {
		c.call(t, c.demo, "UpdateVMHighAvailability", cli.Params{"VMID": m.id, "HighAvailability": "None"}, nil)
		_, _ = m.run(t, "(sleep 1; /sbin/shutdown) >/dev/null 2>&1 &") // the connection ends first
		m.state(t, "Stopped")
	})
	t.Run("rescue from a disc", func(t *testing.T) { rescue(t, m) })
	t.Run("a new system, with another firmware", func(t *testing.T) {
		c.call(t, c.demo, "ReinstallVMInstance", cli.Params{"VMID": m.id, "ImageID": loaded, "Password": "Third-Horse-7"}, nil)
		m.state(t, "Stopped")
		m.start(t)
		m.takes(t, "Third-Horse-7", "Another-Horse-8")
		if out := m.must(t, "cat /state/boots; [ -e /state/mark ] || echo gone; [ -d /sys/firmware/efi ] && echo uefi; ip -o -4 addr show dev eth0"); !strings.HasPrefix(out, "1\ngone\nuefi\n") || !strings.Contains(out, " "+m.ip+"/24 ") {
			t.Errorf("it says\n%s", out)
		}
	})
	t.Run("linked VPCs", func(t *testing.T) { linked(t, fixed, n, lab) })
}

// company is a client's own.
func (c *cloud) company(t *testing.T, client *cli.Client) int {
	t.Helper()
	var vpcs struct{ Infos []struct{ CompanyID int } }
	c.call(t, client, "DescribeVPC", nil, &vpcs)
	return vpcs.Infos[0].CompanyID
}

// has is how many CPUs and KiB of memory a guest sees.
func (m *machine) has(t *testing.T) (cpus, memory int) {
	t.Helper()
	fmt.Sscan(m.must(t, "grep -c ^processor /proc/cpuinfo; sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"), &cpus, &memory)
	return cpus, memory
}

// refuse asks as the machine's owner for what is answered by a status code.
func (m *machine) refuse(t *testing.T, code retcode.Code, name string, p cli.Params) {
	t.Helper()
	refuse(t, m.c, m.client, code, name, p)
}

func refuse(t *testing.T, c *cloud, client *cli.Client, code retcode.Code, name string, p cli.Params) {
	t.Helper()
	var refusal *cli.Error
	if _, err := client.Call(c.ctx, name, p, nil); !errors.As(err, &refusal) || refusal.Code != int(code) {
		t.Errorf("%s: %v, not %d", name, err, code)
	}
}

// bought learns the EIPs that it was created with.
func (m *machine) bought(t *testing.T) {
	t.Helper()
	var list struct {
		Infos []struct{ EIPID, IP, BindResourceID, Status string }
	}
	m.c.call(t, m.client, "DescribeEIP", cli.Params{"BindResourceID": m.id, "Limit": 100}, &list)
	for _, i := range list.Infos {
		if i.BindResourceID == m.id {
			m.eips = append(m.eips, eip{i.EIPID, i.IP})
		}
	}
	if len(m.eips) == 0 {
		t.Fatalf("%s has no EIP: %+v", m.id, list)
	}
}

func (m *machine) start(t *testing.T) {
	t.Helper()
	m.c.call(t, m.client, "StartVMInstance", cli.Params{"VMID": m.id}, nil)
	m.state(t, "Running")
}

// takes checks by SSH that a password is the guest's and the one before is not.
func (m *machine) takes(t *testing.T, password, before string) {
	t.Helper()
	m.password = password
	m.must(t, "true")
	client, err := m.login(ssh.Password(before))
	if err == nil {
		client.Close()
		t.Error("the password before is taken")
	} else if !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("the password before: %v", err)
	}
}

// opens tells whether a private key lets root in.
func (m *machine) opens(t *testing.T, key string) error {
	t.Helper()
	signer, err := ssh.ParsePrivateKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	client, err := m.login(ssh.PublicKeys(signer))
	if err == nil {
		client.Close()
	}
	return err
}

// log is what the guest said on its serial port.
func (m *machine) log(t *testing.T) string {
	t.Helper()
	var log struct{ Output string }
	m.c.call(t, m.client, "GetVMConsoleLog", cli.Params{"VMID": m.id}, &log)
	text, err := base64.StdEncoding.DecodeString(log.Output)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// killQEMU ends the guest's QEMU as a crash would.
func (m *machine) killQEMU(t *testing.T) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(m.c.onHost(t, m.host, "cat", "/run/libvirt/qemu/"+m.id+".pid")))
	if err != nil {
		t.Fatal(err)
	}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !bytes.Contains(line, []byte("guest="+m.id+",")) {
		t.Fatalf("process %d is not the guest's: %q %v", pid, line, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// destroy ends a machine and all that it has, in the bin and beyond.
func (m *machine) destroy(t *testing.T) {
	t.Helper()
	m.c.call(t, m.client, "DeleteVMInstance", cli.Params{"VMID": m.id, "DelBindResource": 1}, nil)
	until(t, m.c, time.Minute, "the end of "+m.id, func() error {
		var refusal *cli.Error
		_, err := m.client.Call(m.c.ctx, "TerminateResource", cli.Params{"ResourceID": m.id}, nil)
		if errors.As(err, &refusal) && refusal.Code == int(retcode.ResourceTerminated) {
			return nil
		}
		return errors.Join(err, errors.New("it is being ended"))
	})
}

// console connects to a console by its ticket's path; refusals are status codes.
func (c *cloud) console(path string) (net.Conn, error) {
	ws, answer, err := websocket.Dial(c.ctx, strings.TrimSuffix(c.demo.Endpoint, "/api")+path, nil)
	if err != nil {
		var refusal struct{ RetCode retcode.Code }
		if answer != nil && json.NewDecoder(answer.Body).Decode(&refusal) == nil {
			return nil, refusal.RetCode.Errorf("refused")
		}
		return nil, err
	}
	ws.SetReadLimit(1 << 20)
	return websocket.NetConn(c.ctx, ws, websocket.MessageBinary), nil
}

// ticket is a console of a guest that nobody connects to.
type ticket struct {
	path string
	ends time.Time
}

func (m *machine) ticket(t *testing.T) ticket {
	t.Helper()
	var session struct {
		URL        string
		ExpireTime int64
	}
	m.c.call(t, m.client, "AllocateVMVNCSession", cli.Params{"VMID": m.id}, &session)
	return ticket{session.URL, time.Unix(session.ExpireTime, 0)}
}

// over waits until its time is over, and checks that it lets nobody in.
func (k ticket) over(t *testing.T, c *cloud) {
	t.Helper()
	until(t, c, 5*time.Minute, "the ticket's end", func() error {
		if left := time.Until(k.ends.Add(2 * time.Second)); left > 0 {
			return fmt.Errorf("it lives for another %s", left)
		}
		return nil
	})
	if _, err := c.console(k.path); retcode.Of(err) != retcode.VNCSessionExpired {
		t.Errorf("a ticket that nobody used in 300 s: %v", err)
	}
}

// consoles looks at the serial log, the screen as browsers and VNC programs see it, and the serial console.
func consoles(t *testing.T, m *machine) {
	c := m.c
	log := m.log(t)
	for _, line := range []string{"GUEST-KERNEL ", "GUEST-SEED ", "GUEST-READY told-by-seed "} {
		if !strings.Contains(log, line) {
			t.Errorf("no %q in the serial log:\n%s", line, log)
		}
	}
	connect := c.console
	open := func(name string) (path, password string) {
		var session struct{ SessionID, URL string }
		c.call(t, c.demo, name, cli.Params{"VMID": m.id}, &session)
		var at struct{ Info struct{ VNCPassword string } }
		c.call(t, c.demo, "GetVMVNCInfo", cli.Params{"VMID": m.id, "SessionID": session.SessionID}, &at)
		return session.URL, at.Info.VNCPassword
	}
	picture := func(conn io.ReadWriter, password string) error {
		if err := rfb.Connect(conn, password); err != nil {
			return err
		}
		screen, err := rfb.Screenshot(conn)
		if err != nil {
			return err
		}
		if s := screen.Bounds().Size(); s.X < 320 || s.Y < 200 {
			return fmt.Errorf("a screen of %v", s)
		}
		return nil
	}
	path, password := open("AllocateVMVNCSession")
	conn, err := connect(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := picture(conn, password); err != nil {
		t.Errorf("the screen: %v", err)
	}
	conn.Close()
	if _, err := connect(path); retcode.Of(err) != retcode.VNCSessionExpired {
		t.Errorf("a ticket that was used: %v", err)
	}
	if _, err := connect(path[:len(path)-1] + "-"); retcode.Of(err) != retcode.VNCSessionNotFound {
		t.Errorf("a ticket that never was: %v", err)
	}
	path, _ = open("AllocateVMVNCSession")
	if conn, err = connect(path); err != nil {
		t.Fatal(err)
	}
	if err := picture(conn, password); !errors.Is(err, rfb.ErrPassword) {
		t.Errorf("the password of the session before: %v", err)
	}
	conn.Close()

	var shot struct{ ImageData string }
	c.call(t, c.demo, "GetVMScreenshot", cli.Params{"VMID": m.id}, &shot)
	if size, err := png.DecodeConfig(base64.NewDecoder(base64.StdEncoding, strings.NewReader(shot.ImageData))); err != nil || size.Width < 320 {
		t.Errorf("a picture of the screen: %v %v", size, err)
	}

	// A VNC program connects to a port of the controller.
	var at struct {
		Info struct {
			VNCIP, VNCPassword string
			VNCPort            int
		}
	}
	c.call(t, c.demo, "GetVMVNCInfo", cli.Params{"VMID": m.id}, &at)
	if conn, err = trial.DialIn(c.ctx, c.Options.Prefix+"-mgmt", net.JoinHostPort(at.Info.VNCIP, strconv.Itoa(at.Info.VNCPort))); err != nil {
		t.Fatal(err)
	}
	if err := picture(conn, at.Info.VNCPassword); err != nil {
		t.Errorf("the screen of a VNC program: %v", err)
	}
	conn.Close()

	path, _ = open("AllocateVMSerialSession")
	if conn, err = connect(path); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	until(t, c, 20*time.Second, "a login prompt", func() error {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte("\r")); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, 4096)
		n, err := conn.Read(said)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(said[:n], []byte("login: ")) {
			return fmt.Errorf("it says %q", said[:n])
		}
		return nil
	})
}

// disc makes an image of a folder's files; more are arguments of genisoimage.
func (c *cloud) disc(t *testing.T, folder string, more ...string) (image string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disc.iso")
	tool(t, "genisoimage", append(append([]string{"-quiet", "-R", "-V", "A-DISC", "-o", file}, more...), folder)...)
	upload := c.sent(t, file, cli.Params{"ImageFormat": "iso", "ImportType": "Local"})
	c.call(t, c.demo, "CompleteImageMultipartUpload", upload, nil)
	image = upload["ImageID"].(string)
	c.made(t, image)
	return image
}

// tool runs a program on the machine of the test.
func tool(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func write(t *testing.T, content string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// discs puts discs into a running guest, which reads them, and takes them out. They are gone before it stops.
func discs(t *testing.T, m *machine) {
	c := m.c
	in := func(want string) {
		t.Helper()
		until(t, c, 20*time.Second, "discs in the guest", func() error {
			if out := m.must(t, "for d in /dev/sr*; do mount -t iso9660 -o ro $d /mnt 2>/dev/null || continue; cat /mnt/on-the-disc 2>/dev/null; umount /mnt; done; :"); out != want {
				return fmt.Errorf("it reads %q, not %q", out, want)
			}
			return nil
		})
	}
	var images []string
	for _, text := range []string{"the first\n", "the second\n"} {
		folder := t.TempDir()
		write(t, text, folder, "on-the-disc")
		images = append(images, c.disc(t, folder))
	}
	call := func(action string, image string) { // as soon as the one before is done
		until(t, c, 20*time.Second, action, func() error {
			_, err := m.client.Call(c.ctx, action, cli.Params{"VMID": m.id, "ImageID": image}, nil)
			return err
		})
	}
	call("AttachISO", images[0])
	in("the first\n")
	call("AttachISO", images[1])
	in("the first\nthe second\n")
	m.refuse(t, retcode.ImageInUse, "DeleteCustomImage", cli.Params{"ImageID": images[0]})
	call("DetachISO", images[0])
	in("the second\n")
	call("DetachISO", images[1])
	in("")
	for _, image := range images {
		until(t, c, 20*time.Second, "the end of a disc", func() error {
			_, err := m.client.Call(c.ctx, "DeleteCustomImage", cli.Params{"ImageID": image}, nil)
			return err
		})
	}
}

// rescue starts a machine that is off from a disc with a system of its own, which finds the machine's system disk.
func rescue(t *testing.T, m *machine) {
	c := m.c
	// The system is the tiny guest's, and can be told by its command line.
	work, folder := t.TempDir(), t.TempDir()
	raw := filepath.Join(work, "tiny.raw")
	tool(t, "qemu-img", "convert", "-O", "raw", c.file, raw)
	tool(t, "mcopy", "-i", raw+"@@1M", "::vmlinuz", "::initrd.img", folder)
	tool(t, "cp", "/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32", folder)
	write(t, "SERIAL 0 115200\nDEFAULT d\nLABEL d\n KERNEL /vmlinuz\n INITRD /initrd.img\n APPEND console=ttyS0 panic=-1 quiet no_timer_check mitigations=off from=disc\n", folder, "isolinux.cfg")
	image := c.disc(t, folder, "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")

	says := func(want string) {
		t.Helper()
		if out := m.must(t, "grep -o from=disc /proc/cmdline; cat /state/mark"); out != want {
			t.Errorf("it says %q, not %q", out, want)
		}
	}
	c.call(t, m.client, "EnterVMRescue", cli.Params{"VMID": m.id, "ImageID": image}, nil)
	m.state(t, "Running")
	says("from=disc\nkept\n")
	m.must(t, "echo mended >/state/mark && sync")
	c.call(t, m.client, "ExitVMRescue", cli.Params{"VMID": m.id}, nil)
	m.state(t, "Stopped")
	m.start(t)
	says("mended\n")
	m.off(t)
	c.call(t, m.client, "DeleteCustomImage", cli.Params{"ImageID": image}, nil)
}

// imported are the parameters of ImportImage for the tiny image.
func (c *cloud) imported(t *testing.T, name string, more cli.Params) cli.Params {
	t.Helper()
	p := cli.Params{"CompanyID": c.company(t, c.demo), "ImageName": name, "ImageFormat": "qcow2", "OSDistribution": "Debian", "OSType": "Linux",
		"SupportCloudInit": true, "SupportQGA": true}
	for k, v := range more {
		p[k] = v
	}
	return p
}

// made waits until an image is there.
func (c *cloud) made(t *testing.T, id string) {
	t.Helper()
	if err := trial.WaitState(c.ctx, c.demo, 2*time.Minute, "DescribeImage", "ImageIDs", "ImageStatus", id, "Used"); err != nil {
		t.Fatal(err)
	}
}

// upload brings the tiny image in in parts, through a connection that breaks and a controller that is killed.
func (c *cloud) upload(t *testing.T) (image string) {
	t.Helper()
	file, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		ImageID, UploadID string
		PartSize          int
	}
	c.call(t, c.demo, "ImportImage", c.imported(t, "uploaded", cli.Params{"ImportType": "Local", "PartSize": 4 << 20}), &made)
	parts := (len(file) + made.PartSize - 1) / made.PartSize
	send := func(number int, broken bool) error {
		content := file[(number-1)*made.PartSize : min(number*made.PartSize, len(file))]
		var body io.Reader = bytes.NewReader(content)
		if broken {
			body = io.MultiReader(bytes.NewReader(content[:len(content)/2]), failing{})
		}
		return c.part(t, made.ImageID, made.UploadID, number, body, len(content))
	}
	for _, number := range []int{1, 3} {
		if err := send(number, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := send(2, true); err == nil {
		t.Fatal("half a part was taken")
	}
	if err := c.Process(c.ctx, "controller", "kill"); err != nil {
		t.Fatal(err)
	}
	in := cli.Params{"ImageID": made.ImageID, "UploadID": made.UploadID}
	have := map[int]bool{}
	until(t, c, time.Minute, "the controller", func() error {
		var list struct{ Infos []struct{ PartNumber int } }
		_, err := c.demo.Call(c.ctx, "ListImageParts", in, &list)
		for _, i := range list.Infos {
			have[i.PartNumber] = true
		}
		return err
	})
	if len(have) != 2 || !have[1] || !have[3] {
		t.Fatalf("parts 1 and 3 were sent, listed are %v", have)
	}
	if _, err := c.demo.Call(c.ctx, "CompleteImageMultipartUpload", in, nil); err == nil {
		t.Error("an upload with a gap is complete")
	}
	for number := 1; number <= parts; number++ {
		if !have[number] {
			if err := send(number, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.call(t, c.demo, "CompleteImageMultipartUpload", in, nil)
	c.made(t, made.ImageID)
	return made.ImageID
}

// part sends one of an upload.
func (c *cloud) part(t *testing.T, image, upload string, number int, body io.Reader, size int) error {
	t.Helper()
	var to struct{ UploadURL string }
	c.call(t, c.demo, "UploadImagePart", cli.Params{"ImageID": image, "UploadID": upload, "PartNumber": number, "PartSize": size}, &to)
	q, err := http.NewRequestWithContext(c.ctx, http.MethodPut, to.UploadURL, body)
	if err != nil {
		return err
	}
	q.ContentLength = int64(size)
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("part %d: %s", number, answer.Status)
	}
	return nil
}

// sent brings a file in as one part, which is to be completed.
func (c *cloud) sent(t *testing.T, file string, p cli.Params) (upload cli.Params) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ImageID, UploadID string }
	c.call(t, c.demo, "ImportImage", c.imported(t, filepath.Base(file), p), &made)
	if err := c.part(t, made.ImageID, made.UploadID, 1, bytes.NewReader(content), len(content)); err != nil {
		t.Fatal(err)
	}
	return cli.Params{"ImageID": made.ImageID, "UploadID": made.UploadID}
}

// refusals: an upload that is given up takes nothing more; a file that names another one, one that is locked and one of
// another format become no images.
func refusals(t *testing.T, c *cloud) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"backed":   {"-f", "qcow2", "-b", "/etc/passwd", "-F", "raw"},
		"locked":   {"-f", "qcow2", "--object", "secret,id=key,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"},
		"other":    {"-f", "vmdk"},
		"given-up": {"-f", "qcow2"},
	} {
		file := filepath.Join(dir, name)
		tool(t, "qemu-img", append(append([]string{"create"}, args...), file, "1G")...)
		upload, code := c.sent(t, file, cli.Params{"ImportType": "Local"}), retcode.InvalidImageFormat
		if name == "given-up" {
			c.call(t, c.demo, "AbortImageMultipartUpload", upload, nil)
			code = retcode.InvalidImageState
		}
		refuse(t, c, c.demo, code, "CompleteImageMultipartUpload", upload)
		in := cli.Params{"ImageID": upload["ImageID"]}
		if code == retcode.InvalidImageFormat {
			c.call(t, c.demo, "AbortImageMultipartUpload", upload, nil)
		}
		c.call(t, c.demo, "DeleteCustomImage", in, nil)
	}
}

// failing is a file that breaks.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut") }

// load brings the tiny image in from an address outside the cloud that the controller reaches, and tries those
// that it must not reach.
func (c *cloud) load(t *testing.T) (image string) {
	t.Helper()
	// Nothing leads out of a trial: a wire of the test's own does.
	const controller, mirror = "198.51.100.1", "198.51.100.2"
	for _, argv := range [][]string{
		{"ip", "link", "add", "mirror", "type", "veth", "peer", "name", "mirror", "netns", c.Options.Prefix + "-outside"},
		{"ip", "addr", "add", controller + "/30", "dev", "mirror"}, {"ip", "link", "set", "mirror", "up"},
	} {
		c.at(t, "mgmt", argv...)
	}
	defer func() { _ = c.Command(context.WithoutCancel(c.ctx), "mgmt", "ip", "link", "del", "mirror").Run() }()
	c.at(t, "outside", "ip", "addr", "add", mirror+"/30", "dev", "mirror")
	c.at(t, "outside", "ip", "link", "set", "mirror", "up")
	// What must not be read: on the controller's own addresses, and behind them on a host.
	var asked []string
	secret := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host)
		http.ServeFile(w, r, c.file)
	})
	var forbidden []string
	for _, at := range [][2]string{{"mgmt", "127.0.0.1"}, {"mgmt", trial.ControllerAddress().String()}, {"mgmt", controller}, {"host1", trial.HostAddress(1).String()}} {
		forbidden = append(forbidden, c.serve(t, at[0], at[1]+":0", secret))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/tiny.qcow2", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, c.file) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+forbidden[1]+"/", http.StatusFound)
	})
	site := c.serve(t, "outside", mirror+":0", mux)

	load := func(url string) string {
		var made struct{ ImageID string }
		c.call(t, c.demo, "ImportImage", c.imported(t, "loaded", cli.Params{"ImportType": "Remote", "LoadURL": url, "BootloaderType": "uefi"}), &made)
		return made.ImageID
	}
	for _, address := range append(forbidden, site+"/moved", "[::1]:80", "169.254.169.254") {
		id := load("http://" + address)
		if err := trial.WaitState(c.ctx, c.demo, time.Minute, "DescribeImage", "ImageIDs", "ImageStatus", id, "Failed"); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		var list struct{ Infos []struct{ Reason string } }
		c.call(t, c.demo, "DescribeImage", cli.Params{"ImageIDs": []string{id}}, &list)
		if !strings.Contains(list.Infos[0].Reason, "leads to an address that images are not taken from") {
			t.Errorf("%s: %s", address, list.Infos[0].Reason)
		}
		c.call(t, c.demo, "DeleteCustomImage", cli.Params{"ImageID": id}, nil)
	}
	if len(asked) > 0 {
		t.Errorf("the controller asked %v", asked)
	}
	image = load("http://" + site + "/tiny.qcow2")
	c.made(t, image)
	return image
}

// at runs a program in a namespace of the trial.
func (c *cloud) at(t *testing.T, place string, argv ...string) string {
	t.Helper()
	out, err := c.Command(c.ctx, place, argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %v\n%s", place, argv, err, out)
	}
	return string(out)
}

// serve answers HTTP at an address in a namespace of the trial, until the test ends.
func (c *cloud) serve(t *testing.T, place, address string, h http.Handler) string {
	t.Helper()
	var l net.Listener
	if err := c.Inside(place, func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}
