package catalog

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// Licence activates regions of one installation. Its canonical form, which is what is signed, is its JSON as
// encoding/json writes it: fields in this order, no white space.
type Licence struct {
	ID       string   // licence-...
	System   string   // the installation
	Regions  []string // that it activates
	Nodes    int      // hosts of a region; 0: any number
	Features []string // services beyond the basic ones; empty: all
	Begin    int64    // unix seconds
	End      int64    // unix seconds; 0: never
}

// LicenceFile is a licence with its signature (ed25519).
type LicenceFile struct {
	Licence   Licence
	Signature []byte
}

// AuthCode is what tells the file of a licence from others by word of mouth.
func (f *LicenceFile) AuthCode() string {
	sum := sha256.Sum256(f.Signature)
	return hex.EncodeToString(sum[:8])
}

// SignLicence makes the file of a licence.
func SignLicence(l Licence, key ed25519.PrivateKey) (*LicenceFile, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return &LicenceFile{Licence: l, Signature: ed25519.Sign(key, text)}, nil
}

// ParseLicence reads a file without judging it: 4 when it is none.
func ParseLicence(raw []byte) (*LicenceFile, error) {
	var f LicenceFile
	if err := json.Unmarshal(raw, &f); err != nil || f.Licence.ID == "" || len(f.Signature) != ed25519.SignatureSize {
		return nil, retcode.InvalidParameterFormat.Errorf("the file is no licence")
	}
	return &f, nil
}

// verify tells whether a key signed the licence.
func (f *LicenceFile) verify(key ed25519.PublicKey) bool {
	text, err := json.Marshal(f.Licence)
	return err == nil && ed25519.Verify(key, text, f.Signature)
}

// issuerSetting keeps the sealed seed of the key that signs this installation's licences.
const issuerSetting = "licence.issuer"

// LicenceIssuer reads the key that signs an installation's licences, and the installation's identity.
func LicenceIssuer(ctx context.Context, s *Service) (key ed25519.PrivateKey, system string, err error) {
	if system, err = s.Setting(ctx, systemSetting); err != nil {
		return nil, "", err
	}
	sealed, err := s.Setting(ctx, issuerSetting)
	if err != nil {
		return nil, "", err
	}
	if system == "" || sealed == "" {
		return nil, "", errors.New("this installation was never started")
	}
	seed, err := s.Secret.Open(sealed, issuerSetting)
	if err != nil {
		return nil, "", err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, "", errors.New("the key that signs licences is damaged")
	}
	return ed25519.NewKeyFromSeed(seed), system, nil
}

// openIssuer makes the key that signs licences when there is none, and then a licence without limits for every region.
func (s *Service) openIssuer(ctx context.Context) error {
	sealed, err := s.Setting(ctx, issuerSetting)
	if err != nil || sealed != "" {
		return err
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	key := ed25519.NewKeyFromSeed(seed)
	regions, err := s.RegionIDs(ctx)
	if err != nil {
		return err
	}
	f, err := SignLicence(Licence{ID: database.NewID("licence"), System: s.Config.SystemID(ctx), Regions: regions, Begin: s.Clock.Micros() / 1e6}, key)
	if err != nil {
		return err
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewRaw(`INSERT INTO setting (name, value, updated_at) VALUES (?, ?, ?)`, issuerSetting, s.Secret.Seal(seed, issuerSetting), s.Clock.Micros()).Exec(ctx); err != nil {
			return err
		}
		return s.install(ctx, tx, f, regions)
	})
}

// install makes a licence that of regions, in place of what they had.
func (s *Service) install(ctx context.Context, tx bun.Tx, f *LicenceFile, regions []string) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	for _, r := range regions {
		row := licenceRow{Region: r, ID: f.Licence.ID, File: string(text), EndsAt: f.Licence.End * 1e6, UpdatedAt: s.Clock.Micros()}
		if _, err := tx.NewInsert().Model(&row).On("CONFLICT (region) DO UPDATE").Set("id = EXCLUDED.id").Set("file = EXCLUDED.file").
			Set("ends_at = EXCLUDED.ends_at").Set("updated_at = EXCLUDED.updated_at").Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

type licenceRow struct {
	bun.BaseModel `bun:"table:licence"`

	Region    string `bun:"region,pk"`
	ID        string `bun:"id"`
	File      string `bun:"file"`
	EndsAt    int64  `bun:"ends_at"`
	UpdatedAt int64  `bun:"updated_at"`
}

// check reads an uploaded licence and refuses what does not fit this installation: 4 no licence, 402 signed by another
// key or for another installation, 401 over, 549 another authorization code.
func (s *Service) checkLicence(ctx context.Context, encoded, code string) (*LicenceFile, error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, retcode.InvalidParameterFormat.Errorf("the file is no licence")
	}
	f, err := ParseLicence(raw)
	if err != nil {
		return nil, err
	}
	key, system, err := LicenceIssuer(ctx, s)
	if err != nil {
		return nil, err
	}
	switch l := f.Licence; {
	case !f.verify(key.Public().(ed25519.PublicKey)):
		return nil, retcode.RegionActivationFailed.Errorf("the licence was not signed for this installation, or was changed")
	case l.System != system:
		return nil, retcode.RegionActivationFailed.Errorf("the licence is for %s, this is %s", l.System, system)
	case code != "" && code != f.AuthCode():
		return nil, retcode.AuthCodeVerifyFailed.Errorf("AuthCode does not belong to the file")
	case l.End != 0 && l.End*1e6 <= s.Clock.Micros():
		return nil, retcode.ActivationCodeExpired.Errorf("licence %s ended %s", l.ID, time.Unix(l.End, 0).UTC().Format(time.DateOnly))
	}
	return f, nil
}

// Node is a host, as licences count it.
type Node struct {
	ID, Name, Region, Address, Arch string
	CPUs, MemoryMiB                 int64
}

// OnNodes sets where the hosts come from (fleet), in the order in which they joined.
func (s *Service) OnNodes(f func(ctx context.Context) ([]Node, error)) { s.nodes = f }

// grows tells whether an action makes or enlarges something of a region.
func grows(spec action.Spec) bool {
	return spec.Mutates && !spec.Admin && spec.Region != action.RegionNone && (begins(spec.Name, "Create", "Allocate", "Clone", "Resize", "Upgrade", "Import") ||
		slices.Contains([]string{"ModifyEIPBandwidth", "UpdateVIPBandwidth", "UpdateNICIPBandwidth"}, spec.Name))
}

// States of a region's licence.
const (
	licensed   = "LICENSED"
	unlicensed = "UNLICENSED"
	over       = "EXPIRED"
)

// licences reads the licences of all regions, at most a second old.
func (s *Service) licences(ctx context.Context) (map[string]licenceRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.licensed != nil && time.Since(s.licensedAt) < configFresh {
		return s.licensed, nil
	}
	rows, err := database.Find[licenceRow](ctx, s.DB.Reader(), "")
	if err != nil {
		return nil, err
	}
	s.licensed, s.licensedAt = make(map[string]licenceRow, len(rows)), time.Now()
	for _, r := range rows {
		s.licensed[r.Region] = r
	}
	return s.licensed, nil
}

// forgetLicences makes a change felt at once.
func (s *Service) forgetLicences() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.licensed = nil
}

// licenceState of a region.
func (s *Service) licenceState(ctx context.Context, region string) (string, licenceRow, error) {
	all, err := s.licences(ctx)
	row, ok := all[region]
	switch {
	case err != nil:
		return "", row, err
	case !ok:
		return unlicensed, row, nil
	case row.EndsAt != 0 && row.EndsAt <= s.Clock.Micros():
		return over, row, nil
	}
	return licensed, row, nil
}

// activated refuses growth in a region without a licence (400) or whose licence is over (404). What runs goes on, and
// everything can be read, shrunk and deleted.
func (s *Service) activated(ctx context.Context, region string) error {
	state, row, err := s.licenceState(ctx, region)
	switch {
	case err != nil:
		return err
	case state == unlicensed:
		return retcode.RegionNotActivated.Errorf("Region %s has no licence", region)
	case state == over:
		return retcode.RegionActivationExpired.Errorf("the licence of region %s ended %s", region, time.UnixMicro(row.EndsAt).UTC().Format(time.DateOnly))
	}
	return nil
}

// OpenLicences is a catalogue that can only issue licences, beside the controller.
func OpenLicences(db *database.DB, key *secret.Key) *Service {
	return New(Deps{DB: db, Secret: key})
}
