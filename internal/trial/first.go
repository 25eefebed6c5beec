package trial

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/guest"
)

// Admin makes a client of the platform administrator, Demo of the demo tenant.
func (o Options) Admin() (*cli.Client, error) { return o.clientOf("admin.json") }

// Demo makes a client of the demo tenant's main account.
func (o Options) Demo() (*cli.Client, error) { return o.clientOf("demo.json") }

func (o Options) clientOf(file string) (*cli.Client, error) {
	profile, err := cli.LoadProfile(filepath.Join(o.Dir, file))
	if err != nil {
		return nil, err
	}
	return cli.New(profile, "en", "")
}

// apiPause is how long to wait before the API is asked the same again.
const apiPause = 200 * time.Millisecond

// names of what the first start makes for the demo tenant.
const (
	firstImage = "tiny"
	firstVM    = "first-vm"
	firstEIP   = "first-eip"
)

// First is the first virtual machine. It is kept in first-vm.json (mode 0600), with its password.
type First struct {
	VMID     string
	EIPID    string
	IP       string // the EIP's address
	Password string // of root
	URL      string `json:"-"` // its page over loopback
}

// infos decodes the Infos of an answer.
type infos[T any] struct{ Infos []T }

// ImportImage brings an image file in as a base image, unless one of that name
// is there, and answers its id.
func (t *Trial) ImportImage(ctx context.Context, name string, image guest.Image) (string, error) {
	admin, err := t.Options.Admin()
	if err != nil {
		return "", err
	}
	var list infos[struct{ ImageID, Name, ImageName string }]
	if _, err := admin.Call(ctx, "DescribeImage", cli.Params{"ImageType": "Base", "Limit": 100}, &list); err != nil {
		return "", err
	}
	for _, i := range list.Infos {
		if i.Name == name || i.ImageName == name {
			return i.ImageID, nil
		}
	}
	dir := filepath.Join(t.Options.Dir, "import")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	file := name + ".qcow2"
	if err := copyFile(filepath.Join(dir, file), image.Path); err != nil {
		return "", err
	}
	var answer struct{ ImageID string }
	_, err = admin.Call(ctx, "ImportBaseImage", cli.Params{"Name": name, "FileName": file, "Description": "made by lingyun image build " + image.Name,
		"OSType": "Linux", "OSName": osName[image.Name], "OSDistribution": "Debian", "LoginUser": "root",
		"SupportCloudInit": true, "SupportQGA": true}, &answer)
	return answer.ImageID, err
}

var osName = map[string]string{"tiny": "BusyBox on Debian 12", "debian": "Debian 12"}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".part-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := errors.Join(out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// Defaults are what a tenant has from the beginning.
type Defaults struct {
	VMType, StorageType    string
	VPCID, SubnetID        string
	InnerGroup, OuterGroup string
}

// Defaults asks for them.
func (t *Trial) Defaults(ctx context.Context, client *cli.Client) (Defaults, error) {
	var d Defaults
	one := func(name, field string, to *string) error {
		var answer infos[map[string]any]
		if _, err := client.Call(ctx, name, cli.Params{}, &answer); err != nil {
			return err
		}
		for _, i := range answer.Infos {
			if text, ok := i[field].(string); ok && text != "" && (*to == "" || i["IsDefault"] == true || i["Name"] == "default") {
				*to = text
			}
		}
		if *to == "" {
			return fmt.Errorf("trial: %s lists nothing", name)
		}
		return nil
	}
	err := errors.Join(one("DescribeVMType", "VMType", &d.VMType), one("DescribeStorageType", "StorageType", &d.StorageType),
		one("DescribeVPC", "VPCID", &d.VPCID), one("DescribeSubnet", "SubnetID", &d.SubnetID), one("DescribeSecurityGroup", "SGID", &d.OuterGroup))
	return d, err
}

// WaitState polls a describe action until the object of that id has one of the states.
func WaitState(ctx context.Context, client *cli.Client, limit time.Duration, action, ids, field, id string, states ...string) error {
	return untilEvery(ctx, apiPause, limit, func() error {
		var answer infos[map[string]any]
		if _, err := client.Call(ctx, action, cli.Params{ids: []string{id}}, &answer); err != nil {
			return err
		}
		if len(answer.Infos) != 1 {
			return fmt.Errorf("%s: %d objects of id %s", action, len(answer.Infos), id)
		}
		now := fmt.Sprint(answer.Infos[0][field])
		for _, s := range states {
			if now == s {
				return nil
			}
		}
		return fmt.Errorf("%s is %s (%v), not %v", id, now, answer.Infos[0]["Reason"], states)
	})
}

// FirstVM makes the demo tenant's first virtual machine with an EIP, or finds it
// and starts it again, and waits until its page answers from outside the cloud.
func (t *Trial) FirstVM(ctx context.Context, imageID string, say func(string)) (First, error) {
	demo, err := t.Options.Demo()
	if err != nil {
		return First{}, err
	}
	file := filepath.Join(t.Options.Dir, "first-vm.json")
	var first First
	if data, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(data, &first); err != nil {
			return first, fmt.Errorf("trial: %s: %w", file, err)
		}
	}
	keep := func() error {
		data, err := json.MarshalIndent(first, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(file, append(data, '\n'), 0o600)
	}
	if first.VMID != "" {
		var list infos[struct{ State string }]
		if _, err := demo.Call(ctx, "DescribeVMInstance", cli.Params{"VMIDs": []string{first.VMID}}, &list); err != nil {
			return first, err
		}
		if len(list.Infos) == 0 {
			say("the first virtual machine was deleted, and stays so")
			return First{}, nil
		}
	} else {
		say("creating the first virtual machine for the demo tenant")
		d, err := t.Defaults(ctx, demo)
		if err != nil {
			return first, err
		}
		if first.Password, err = password(); err != nil {
			return first, err
		}
		var answer struct{ VMID string }
		if err := t.waitRoom(ctx); err != nil {
			return first, err
		}
		_, err = demo.Call(ctx, "CreateVMInstance", cli.Params{"Name": firstVM, "Password": first.Password, "ChargeType": "Dynamic",
			"VMType": d.VMType, "CPU": 1, "Memory": 1024, "BootDiskSetType": d.StorageType, "VPCID": d.VPCID, "SubnetID": d.SubnetID,
			"ImageID": imageID, "WANSGID": d.OuterGroup}, &answer)
		if err != nil {
			return first, err
		}
		first.VMID = answer.VMID
		if err := keep(); err != nil {
			return first, err
		}
	}
	if first.EIPID == "" {
		say("giving it a public address")
		var answer struct{ EIPID string }
		if _, err := demo.Call(ctx, "AllocateEIP", cli.Params{"Name": firstEIP, "ChargeType": "Dynamic", "Bandwidth": 10, "OperatorName": "Bgp"}, &answer); err != nil {
			return first, err
		}
		first.EIPID = answer.EIPID
		if err := keep(); err != nil {
			return first, err
		}
	}
	var eips infos[struct{ IP, Status, BindResourceID string }]
	if _, err := demo.Call(ctx, "DescribeEIP", cli.Params{"EIPIDs": []string{first.EIPID}}, &eips); err != nil {
		return first, err
	}
	if len(eips.Infos) != 1 {
		say("its public address was released, and stays so")
		return first, nil
	}
	first.IP = eips.Infos[0].IP
	if eips.Infos[0].BindResourceID == "" {
		if err := WaitState(ctx, demo, 2*time.Minute, "DescribeVMInstance", "VMIDs", "State", first.VMID, "Running", "Stopped"); err != nil {
			return first, err
		}
		if _, err := demo.Call(ctx, "BindEIP", cli.Params{"ResourceType": "VM", "ResourceID": first.VMID, "EIPID": first.EIPID}, nil); err != nil {
			return first, err
		}
	}
	if err := errors.Join(keep(), WaitState(ctx, demo, time.Minute, "DescribeEIP", "EIPIDs", "Status", first.EIPID, "Bound")); err != nil {
		return first, err
	}
	if t.Options.Machine != nil {
		return first, t.waitReal(ctx, demo, &first, say)
	}
	say("waiting until its page answers on " + first.IP + ", seen from outside the cloud")
	if err := t.waitFirst(ctx, demo, first, say); err != nil {
		return first, err
	}
	local, err := t.Forward(ctx, "127.0.0.1:8081", net.JoinHostPort(first.IP, "80"))
	if err != nil {
		return first, err
	}
	first.URL = "http://" + local + "/"
	return first, nil
}

// waitReal waits for the first machine on a real provider network: for its page
// where a route leads there, else until it runs.
func (t *Trial) waitReal(ctx context.Context, demo *cli.Client, first *First, say func(string)) error {
	first.URL = "http://" + first.IP + "/"
	if _, err := netlink.RouteGet(net.ParseIP(first.IP)); err == nil {
		say("waiting until its page answers on " + first.IP)
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if t.waitFirst(ctx, demo, *first, say) == nil {
			return nil
		}
		say("it does not answer this machine: look at " + first.URL + " from the provider's network; its router must accept the range's addresses on " + t.Options.Machine.Interface)
		return nil
	}
	say("this machine has no route to " + first.IP + ": open " + first.URL + " from the provider's network, or add a route")
	return WaitState(ctx, demo, 2*time.Minute, "DescribeVMInstance", "VMIDs", "State", first.VMID, "Running")
}

// waitFirst waits until the first machine's page answers. A machine that is found
// stopped is started: when the trial was down its guests were, too, and the
// controller learns it from the host some time after it is up again.
func (t *Trial) waitFirst(ctx context.Context, demo *cli.Client, first First, say func(string)) error {
	return untilEvery(ctx, apiPause, 3*time.Minute, func() error {
		var list infos[struct{ State, Reason string }]
		if _, err := demo.Call(ctx, "DescribeVMInstance", cli.Params{"VMIDs": []string{first.VMID}}, &list); err != nil {
			return err
		}
		if len(list.Infos) != 1 {
			return fmt.Errorf("trial: %s is gone", first.VMID)
		}
		switch now := list.Infos[0]; now.State {
		case "Running":
			_, err := t.Get(ctx, first.IP, "/")
			return err
		case "Stopped":
			say("starting the first virtual machine again")
			if _, err := demo.Call(ctx, "StartVMInstance", cli.Params{"VMID": first.VMID}, nil); err != nil {
				return err
			}
			return fmt.Errorf("trial: %s is being started", first.VMID)
		default:
			return fmt.Errorf("trial: %s is %s %s", first.VMID, now.State, now.Reason)
		}
	})
}

// Get fetches a page from outside the cloud.
func (t *Trial) Get(ctx context.Context, ip, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip+path, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return t.Dial(ctx, address)
	}}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", request.URL, response.Status)
	}
	return string(body), err
}

// WaitHTTP waits until a page answers outside the cloud.
func (t *Trial) WaitHTTP(ctx context.Context, limit time.Duration, ip, path string) (body string, err error) {
	err = until(ctx, limit, func() error { body, err = t.Get(ctx, ip, path); return err })
	return body, err
}

// password makes one that every rule accepts: letters, digits, a sign.
func password() (string, error) {
	const letters = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	text := make([]byte, 16)
	for i := range text {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", err
		}
		text[i] = letters[n.Int64()]
	}
	return "L1-" + string(text), nil
}

// waitRoom waits until hosts have room. They are asked for their health after they joined: until then there is none.
func (t *Trial) waitRoom(ctx context.Context) error {
	admin, err := t.Options.Admin()
	if err != nil {
		return err
	}
	return untilEvery(ctx, apiPause, time.Minute, func() error {
		var regions infos[struct{ CPUAllocable, MemoryAllocable, StorageCount int64 }]
		if _, err := admin.Call(ctx, "DescribeRegion", cli.Params{}, &regions); err != nil {
			return err
		}
		for _, r := range regions.Infos {
			if r.CPUAllocable > 0 && r.MemoryAllocable > 0 && r.StorageCount > 0 {
				return nil
			}
		}
		return errors.New("trial: no host is available")
	})
}
