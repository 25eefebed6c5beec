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
	"strings"
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

// licence that a region works under, which was checked when it was installed.
func (r *licenceRow) licence() Licence {
	var f LicenceFile
	_ = json.Unmarshal([]byte(r.File), &f) // none: the zero one
	return f.Licence
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

// features are what a licence may name beyond the basic services: the actions that make or enlarge something of it, and
// what is counted of it.
var features = []struct {
	name    string
	module  string // all that grows there
	actions []string
	factor  Factor
}{
	{name: "GPU", factor: GPU},
	{name: "AutoScaling", module: "autoscaling", factor: ScalingGroup},
	{name: "AdvancedNetwork", module: "direct_connect"},
	{name: "CommercialStorage", actions: []string{"CreateExternalStorageSet", "AllocateExternalStorageSetDisk"}},
	{name: "USB", actions: []string{"AllocateUSB", "AttachUSB"}},
	{name: "ObjectStore", factor: ObjectStore},
	{name: "FileStore", factor: FileStore},
	{name: "MySQL", factor: MySQL},
	{name: "Redis", factor: Redis},
}

// featureOfAction is what a region's licence must include for an action; empty: nothing special.
func featureOfAction(spec action.Spec) string {
	for _, f := range features {
		if f.module != "" && f.module == spec.Module && grows(spec) || slices.Contains(f.actions, spec.Name) {
			return f.name
		}
	}
	return ""
}

// included refuses a feature that the licence of a region does not name (400). One that names none has all; where there
// is no licence or it is over, that is the answer.
func (s *Service) included(ctx context.Context, region, feature string) error {
	if err := s.activated(ctx, region); err != nil {
		return err
	}
	_, row, err := s.licenceState(ctx, region)
	if err != nil {
		return err
	}
	if has := row.licence().Features; len(has) > 0 && !slices.ContainsFunc(has, func(h string) bool { return strings.EqualFold(h, feature) }) {
		return retcode.RegionNotActivated.Errorf("the licence of region %s does not include %s", region, feature)
	}
	return nil
}

// countable refuses what is counted as a feature that the licence does not name.
func (s *Service) countable(ctx context.Context, region string, a Amounts) error {
	for _, f := range features {
		if f.factor != "" && a[f.factor] > 0 {
			if err := s.included(ctx, region, f.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// AdmitNode refuses a further host in a region without a licence (400), whose licence is over (404) or counts no more
// hosts (402). In a transaction it keeps others from joining there until its end.
func (s *Service) AdmitNode(ctx context.Context, db bun.IDB, region string) error {
	if err := s.activated(ctx, region); err != nil {
		return err
	}
	if database.InTransaction(ctx) {
		if _, err := db.NewRaw(`UPDATE licence SET updated_at = updated_at WHERE region = ?`, region).Exec(ctx); err != nil {
			return err
		}
	}
	rows, err := database.Find[licenceRow](ctx, db, "WHERE region = ?", region)
	if err != nil || len(rows) == 0 {
		return err
	}
	most := rows[0].licence().Nodes
	var there int
	if err := db.NewRaw(`SELECT COUNT(*) FROM host WHERE region = ?`, region).Scan(ctx, &there); err != nil {
		return err
	}
	if most > 0 && there >= most {
		return retcode.RegionActivationFailed.Errorf("licence %s counts %d hosts, and %d are there", rows[0].ID, most, there)
	}
	return nil
}

// States of a region's licence.
const (
	licensed   = "LICENSED"
	unlicensed = "UNLICENSED"
	over       = "EXPIRED"
)

// licences reads the licences of all regions, at most a second old; inside a transaction, as the gate saw them.
func (s *Service) licences(ctx context.Context) (map[string]licenceRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.licensed != nil && (time.Since(s.licensedAt) < configFresh || database.InTransaction(ctx)) {
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
