package simulate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// record is one change of one host, or (no host) of the clock. Only what changed is set.
type record struct {
	Clock      int64           `json:"c,omitempty"` // offset from wall time, nanoseconds
	Host       string          `json:"h,omitempty"`
	Shared     bool            `json:"sh,omitempty"` // Host is a pool
	Pool       string          `json:"p,omitempty"`  // that the host knows, in Generation
	Epoch      uint64          `json:"e,omitempty"`
	Resource   string          `json:"r,omitempty"`
	Generation uint64          `json:"g,omitempty"`
	Image      string          `json:"i,omitempty"`
	Size       uint64          `json:"s,omitempty"`
	Volume     string          `json:"v,omitempty"`
	Domain     string          `json:"d,omitempty"`
	Spec       json.RawMessage `json:"spec,omitempty"` // of the volume or domain
	Content    string          `json:"b,omitempty"`    // of the volume
	Snapshots  []snapshot      `json:"sn,omitempty"`   // likewise
	State      int32           `json:"st,omitempty"`   // of the domain
	Serial     uint64          `json:"rs,omitempty"`
	Gone       bool            `json:"x,omitempty"`
}

// journal appends records to a file. A write that reached the kernel survives a killed
// process, which is all that a simulation needs: no fsync.
type journal struct {
	mu  sync.Mutex
	f   *os.File
	err error
}

// openJournal replays what is there, then appends to it.
func openJournal(dir string, restore func(record) error) (*journal, error) {
	if dir == "" {
		return &journal{}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "hosts.jsonl")
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		r := bufio.NewReader(f)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				break // the end, or a line cut off by a kill
			}
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			var rec record
			if err := json.Unmarshal(line, &rec); err != nil {
				continue // cut off by an earlier kill
			}
			if err := restore(rec); err != nil {
				f.Close()
				return nil, fmt.Errorf("simulate: %s: %w", name, err)
			}
		}
		f.Close()
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// A line cut off by a kill must not swallow the next one.
	if st, err := out.Stat(); err == nil && st.Size() > 0 {
		if _, err := out.WriteString("\n"); err != nil {
			out.Close()
			return nil, err
		}
	}
	return &journal{f: out}, nil
}

func (j *journal) append(rec record) {
	if j == nil || j.f == nil {
		return
	}
	b, err := json.Marshal(rec)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		_, err = j.f.Write(append(b, '\n'))
	}
	j.err = errors.Join(j.err, err)
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	err := errors.Join(j.err, j.f.Close())
	j.f = nil
	return err
}

// restore applies one record of an earlier process.
func (c *Cloud) restore(rec record) error {
	if rec.Clock != 0 {
		c.o.Clock.Advance(time.Duration(rec.Clock) - c.o.Clock.Offset())
	}
	h := c.byID[rec.Host]
	if rec.Shared {
		h = c.pool(rec.Host)
	}
	if h == nil {
		return nil // fewer hosts than before
	}
	switch {
	case rec.Pool != "" && rec.Gone:
		delete(h.known, rec.Pool)
	case rec.Pool != "":
		h.known[rec.Pool] = rec.Generation
	case rec.Domain != "" && rec.Gone:
		delete(h.domains, rec.Domain)
	case rec.Domain != "":
		spec := &pb.DomainSpec{}
		if err := protojson.Unmarshal(rec.Spec, spec); err != nil {
			return err
		}
		d := &domain{spec: spec, state: pb.DomainState(rec.State), serial: rec.Serial}
		d.plug(true)
		h.domains[rec.Domain] = d
	case rec.Volume != "" && rec.Gone:
		delete(h.volumes, rec.Volume)
	case rec.Volume != "":
		spec := &pb.VolumeSpec{}
		if err := protojson.Unmarshal(rec.Spec, spec); err != nil {
			return err
		}
		h.volumes[rec.Volume] = &volume{spec: spec, content: rec.Content, snapshots: rec.Snapshots}
	case rec.Image != "" && rec.Gone:
		delete(h.images, rec.Image)
	case rec.Image != "":
		h.images[rec.Image] = rec.Size
	case rec.Resource != "":
		h.generations[rec.Resource] = rec.Generation
	default:
		h.epoch = max(h.epoch, rec.Epoch)
	}
	return nil
}

func (h *Host) save(rec record) {
	rec.Host, rec.Shared = h.id, h.name == ""
	h.cloud.log.append(rec)
}

func (h *Host) saveDomain(id string) {
	d := h.domains[id]
	if d == nil {
		h.save(record{Domain: id, Gone: true})
		return
	}
	h.save(record{Domain: id, Spec: specJSON(d.spec), State: int32(d.state), Serial: d.serial})
}

func (h *Host) saveVolume(id string) {
	v := h.volumes[id]
	if v == nil {
		h.save(record{Volume: id, Gone: true})
		return
	}
	h.save(record{Volume: id, Spec: specJSON(v.spec), Content: v.content, Snapshots: v.snapshots})
}

// data is what moves with a volume to another host.
func (v *volume) data() []byte {
	b, _ := json.Marshal(record{Content: v.content, Snapshots: v.snapshots}) // strings and numbers always marshal
	return b
}

func (v *volume) fill(data []byte) error {
	var rec record
	err := json.Unmarshal(data, &rec)
	v.content, v.snapshots = rec.Content, rec.Snapshots
	return err
}

// specJSON of a specification. What is secret is left out: the seed, which holds a password's hash and keys, and
// the passphrases of disks.
func specJSON(m proto.Message) json.RawMessage {
	if d, ok := m.(*pb.DomainSpec); ok {
		d = proto.Clone(d).(*pb.DomainSpec)
		d.Seed = nil
		for _, disk := range d.Disks {
			disk.Secret = nil
		}
		m = d
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		panic("simulate: a specification has no JSON form: " + err.Error()) // only invalid UTF-8 in a field, which validation refuses
	}
	return b
}
