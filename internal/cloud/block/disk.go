package block

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/database"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// How many disks a machine takes, its system disk included.
const (
	MaxDisks    = 25 // x86
	MaxDisksARM = 3
)

// Most is how many disks a machine of an architecture takes.
func Most(arch string) int {
	if arch == "aarch64" {
		return MaxDisksARM
	}
	return MaxDisks
}

// Keys of encrypted disks, in bytes.
const (
	minSecret = 8
	maxSecret = 256
)

// CheckSecret checks the key of an encrypted disk, which parameter name gave in base64, and returns the passphrase
// for it: 4 not base64, 113 not 8 to 256 bytes. Empty stays empty.
func CheckSecret(name, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", retcode.InvalidParameterFormat.Errorf("%s must be base64", name)
	}
	if len(raw) < minSecret || len(raw) > maxSecret {
		return "", retcode.InvalidParameter.Errorf("%s is a key of %d to %d bytes", name, minSecret, maxSecret)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

func secretContext(disk string) string { return "disk.secret:" + disk }

// Encrypt gives a new disk its passphrase (of CheckSecret); empty leaves it in the clear.
func (s *Service) Encrypt(d *Disk, passphrase string) {
	if passphrase != "" {
		d.Secret = s.Secret.Seal([]byte(passphrase), secretContext(d.ID))
	}
}

// Device is the path of a disk in every guest, whatever others it has: its id is its serial number.
func (d *Disk) Device() string { return "/dev/disk/by-id/virtio-" + d.ID }

// Passphrase opens a disk's secret; nil: it is not encrypted.
func (s *Service) Passphrase(d *Disk) ([]byte, error) {
	if d.Secret == "" {
		return nil, nil
	}
	b, err := s.Secret.Open(d.Secret, secretContext(d.ID))
	if err != nil {
		return nil, fmt.Errorf("secret of %s: %w", d.ID, err)
	}
	return b, nil
}

// inherit gives a copy the key of its source: the data is not encrypted anew.
func (s *Service) inherit(d, source *Disk) error {
	b, err := s.Passphrase(source)
	if err == nil && b != nil {
		s.Encrypt(d, string(b))
	}
	return err
}

// The most that limits can be set to.
const (
	maxIOPS = 50000
	maxMBps = 1000
)

// usual are the limits of a disk that nobody has set any for: what its medium does, or by its size.
func usual(media string, gb int) Limits {
	if media == fleet.HDD {
		return Limits{ReadIOPS: 1000, WriteIOPS: 1000, ReadMBps: 100, WriteMBps: 100}
	}
	iops, mbps := min(maxIOPS, 1800+30*gb), min(maxMBps, 80+gb/2)
	return Limits{ReadIOPS: iops, WriteIOPS: iops, ReadMBps: mbps, WriteMBps: mbps}
}

// effective are the limits that hold for a disk.
func (d *Disk) effective(media string) Limits {
	if d.Limited {
		return d.Limits
	}
	return usual(media, d.SizeGB)
}

// grown are a disk's own limits after it has grown: none is lower than what is usual for the new size. What is not
// limited stays so.
func (l Limits) grown(media string, gb int) Limits {
	u := usual(media, gb)
	raise := func(own *int, usual int) {
		if *own > 0 {
			*own = max(*own, usual)
		}
	}
	raise(&l.ReadIOPS, u.ReadIOPS)
	raise(&l.WriteIOPS, u.WriteIOPS)
	raise(&l.TotalIOPS, u.ReadIOPS)
	raise(&l.ReadMBps, u.ReadMBps)
	raise(&l.WriteMBps, u.WriteMBps)
	raise(&l.TotalMBps, u.ReadMBps)
	return l
}

// wire is what a host is told. A megabyte is a million bytes.
func (l Limits) wire() *pb.DiskLimits {
	if l == (Limits{}) {
		return nil
	}
	return &pb.DiskLimits{ReadIops: uint64(l.ReadIOPS), WriteIops: uint64(l.WriteIOPS), TotalIops: uint64(l.TotalIOPS),
		ReadBytes: uint64(l.ReadMBps) * 1e6, WriteBytes: uint64(l.WriteMBps) * 1e6, TotalBytes: uint64(l.TotalMBps) * 1e6}
}

// DomainDisks are the disks that a machine has, or is about to have, as its host is told them. One that is on its way
// off it is not among them, nor one whose volume is not on the machine's host yet.
func (s *Service) DomainDisks(ctx context.Context, idb bun.IDB, vm string) ([]*pb.DomainDisk, error) {
	all, err := Of(ctx, idb, vm)
	if err != nil || len(all[vm]) == 0 {
		return nil, err
	}
	sets, err := s.sets(ctx)
	if err != nil {
		return nil, err
	}
	var out []*pb.DomainDisk
	for _, d := range all[vm] {
		if d.State == Unbounding || d.State == Bounding && !d.Plug {
			continue
		}
		w := &pb.DomainDisk{VolumeId: d.ID, Target: d.Target, Shared: d.Shareable, Pool: s.Pool(&d)}
		if d.Target == SystemTarget {
			w.BootOrder = 1
		}
		if s.Catalog.Config.DiskQoS(ctx, d.Region) {
			w.Limits = d.effective(sets[d.SetID].Media).wire()
		}
		if w.Secret, err = s.Passphrase(&d); err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// sets are all storage sets, by id.
func (s *Service) sets(ctx context.Context) (map[string]fleet.Set, error) {
	return s.Fleet.StorageSets(ctx, "")
}

// freeTarget is the first name that none of a machine's disks has: 208 when there are as many as it takes.
func freeTarget(disks []Disk, arch string) (string, error) {
	if len(disks) >= Most(arch) {
		return "", retcode.BindLimitReached.Errorf("a machine takes %d disks", Most(arch))
	}
	taken := map[string]bool{}
	for _, d := range disks {
		taken[d.Target] = true
	}
	for c := 'b'; c <= 'y'; c++ {
		if t := "vd" + string(c); !taken[t] {
			return t, nil
		}
	}
	return "", retcode.BindLimitReached.Errorf("a machine takes %d disks", Most(arch))
}

// copyOf is the row of a disk that starts with the data of another and is bought on its own terms. It renews itself
// as one that is bought without a word about that.
func (s *Service) copyOf(source *Disk, name string) Disk {
	now := s.Clock.Micros()
	return Disk{
		ID: database.NewID("disk"), Region: source.Region, Company: source.Company, Name: name, Role: Data, AutoRenew: true,
		State: Creating, SetType: source.SetType, SetID: source.SetID, HostID: source.HostID, Written: true, SizeGB: source.SizeGB,
		ImageDigest: source.ImageDigest, SrcDisk: source.ID, Bootable: source.Role == Boot || source.Bootable,
		CreatedAt: now, UpdatedAt: now, Generation: 1,
	}
}
