package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/guest"
	"github.com/lingyun-cloud/lingyun/internal/host"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

// The trial that a group starts for itself: nothing of it collides with that of `make up`.
const (
	bootDir    = "/var/lib/lingyun-bench"
	bootRounds = 5
)

// boot compares, on the real engines, what the API needs from the request to a running machine with what
// `virsh define` and `virsh start` need for the same XML. A machine runs when libvirt says so.
func (b *bench) boot() error {
	if os.Geteuid() != 0 {
		log.Print("boot: left out, it needs root (namespaces and guests)")
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	p, err := b.startPlace(ctx)
	defer stopPlace()
	if err != nil {
		return err
	}
	client := p.client
	var ours, theirs []time.Duration
	for n := range bootRounds + 1 {
		vm, took, err := create(ctx, client, p.net, p.image, fmt.Sprintf("boot-%d", n))
		if err != nil {
			return err
		}
		again, err := virsh(ctx, p, vm)
		if err != nil {
			return err
		}
		if n == 0 {
			continue // the first one sends the image to the host
		}
		ours, theirs = append(ours, took), append(theirs, again)
	}
	us, virsh := milliseconds(percentile(sortDurations(ours), .5)), milliseconds(percentile(sortDurations(theirs), .5))
	note := fmt.Sprintf("median of %d, guests on %s", bootRounds, p.Options.VirtType)
	b.print(figure{Name: "create to running", Value: us, Unit: "ms", Note: note})
	b.print(figure{Name: "virsh define and start", Value: virsh, Unit: "ms", Note: "same XML, same host, in turns with the creates"})
	b.print(figure{Name: "create to running, ratio", Value: us / virsh, Unit: "x", Target: "<= 1.3"})
	b.print(figure{Name: "create to running, more", Value: us - virsh, Unit: "ms", Target: "<= 150"})
	return nil
}

// place is a trial of one host with an image.
type place struct {
	*trial.Trial
	client *cli.Client // of a tenant
	net    trial.Defaults
	image  string
}

func (b *bench) startPlace(ctx context.Context) (*place, error) {
	cache, err := filepath.Abs(".cache/guest") // where `make up` has it
	if err != nil {
		return nil, err
	}
	image, err := guest.Build(ctx, "tiny", guest.Options{Cache: cache})
	if err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(b.server)
	if err != nil {
		return nil, err
	}
	p := &place{}
	p.Trial, _, err = trial.Start(ctx, trial.Options{Dir: bootDir, Prefix: "lybench", Hosts: 1, Binary: binary,
		Listen: "127.0.0.1:18098", Segment: netip.MustParsePrefix("198.51.100.0/24"),
		VirtType: host.ProbeVirtType(ctx, slog.New(slog.DiscardHandler))}, func(string) {})
	if err != nil {
		return nil, err
	}
	if p.image, err = p.ImportImage(ctx, image.Name, image); err != nil {
		return nil, err
	}
	if p.client, err = p.Options.Demo(); err != nil {
		return nil, err
	}
	p.net, err = p.Defaults(ctx, p.client)
	return p, err
}

func stopPlace() {
	stop, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := trial.Stop(stop, bootDir, true); err != nil && !errors.Is(err, trial.ErrNotRunning) {
		log.Print(err)
	}
}

// run executes a program on the host.
func (p *place) run(ctx context.Context, argv ...string) (string, error) {
	cmd, err := p.HostCommand(ctx, 1, argv...)
	if err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

// create makes a machine and waits until it runs.
func create(ctx context.Context, client *cli.Client, net trial.Defaults, image, name string) (vm string, took time.Duration, err error) {
	var made struct{ VMID string }
	params := cli.Params{"Name": name, "Password": "Bench-0123", "ChargeType": "Dynamic", "VMType": net.VMType, "CPU": 1, "Memory": 1024,
		"BootDiskSetType": net.StorageType, "VPCID": net.VPCID, "SubnetID": net.SubnetID, "ImageID": image, "WANSGID": net.OuterGroup}
	var start time.Time
	for end := time.Now().Add(time.Minute); ; {
		start = time.Now()
		if _, err = client.Call(ctx, "CreateVMInstance", params, &made); err == nil {
			break
		}
		if time.Now().After(end) { // a host that has just joined has no room yet
			return "", 0, err
		}
		time.Sleep(200 * time.Millisecond)
	}
	for {
		state, err := stateOf(ctx, client, made.VMID)
		switch {
		case err != nil:
			return "", 0, err
		case state == "Running":
			return made.VMID, time.Since(start), nil
		case state == "Failed":
			return "", 0, fmt.Errorf("%s failed", made.VMID)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func stateOf(ctx context.Context, client *cli.Client, vm string) (string, error) {
	var list struct{ Infos []struct{ State string } }
	if _, err := client.Call(ctx, "DescribeVMInstance", cli.Params{"VMIDs": []string{vm}}, &list); err != nil {
		return "", err
	}
	if len(list.Infos) != 1 {
		return "", fmt.Errorf("%s is not listed", vm)
	}
	return list.Infos[0].State, nil
}

var (
	nameElement = regexp.MustCompile(`<name>[^<]*</name>`)
	uuidElement = regexp.MustCompile(`<uuid>[^<]*</uuid>`)
)

// virsh takes a running machine's definition, powers the machine off, and lets one virsh define and start the
// same under another name: same disks, same port. Then it removes both.
func virsh(ctx context.Context, p *place, vm string) (time.Duration, error) {
	client := p.client
	run := func(argv ...string) (string, error) { return p.run(ctx, argv...) }
	names, err := run("virsh", "--quiet", "list", "--name")
	if err != nil {
		return 0, err
	}
	domain := strings.TrimSpace(names)
	if domain == "" || strings.ContainsAny(domain, " \n") {
		return 0, fmt.Errorf("one domain is expected to run: %q", names)
	}
	xml, err := run("virsh", "dumpxml", "--inactive", "--security-info", domain)
	if err != nil {
		return 0, err
	}
	if _, err := client.Call(ctx, "PoweroffVMInstance", cli.Params{"VMID": vm}, nil); err != nil {
		return 0, err
	}
	for state := ""; state != "Stopped"; {
		if state, err = stateOf(ctx, client, vm); err != nil {
			return 0, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	const copied = "bench-copy"
	xml = nameElement.ReplaceAllString(xml, "<name>"+copied+"</name>")
	xml = uuidElement.ReplaceAllString(xml, "<uuid>"+uuid.NewString()+"</uuid>")
	file := filepath.Join(bootDir, copied+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := run("virsh", "--quiet", "define "+file+"; start "+copied); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if _, err := run("virsh", "--quiet", "destroy "+copied+"; undefine "+copied+" --nvram"); err != nil {
		return 0, err
	}
	if _, err := client.Call(ctx, "DeleteVMInstance", cli.Params{"VMID": vm}, nil); err != nil {
		return 0, err
	}
	return took, nil
}
