package fleet

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of the fleet.
func (s *Service) Actions() []action.Action {
	return append(s.storageActions(),
		action.Define(action.Spec{Name: "DescribeVMType", Module: "cluster", Summary: "List the compute set types the caller may use."}, s.describeVMType),
		action.Define(action.Spec{Name: "DescribeStorageType", Module: "cluster", Summary: "List the storage set types the caller may use."}, s.describeStorageType),
		action.Define(action.Spec{Name: "CreateHostJoinToken", Module: "node", Summary: "Issue a one-time token for a new host.",
			Admin: true, Mutates: true, Extension: true}, s.createToken),
		action.Define(action.Spec{Name: "LockHost", Module: "node", Summary: "Stop scheduling onto a compute host.", Admin: true, Mutates: true}, s.lockHost),
		action.Define(action.Spec{Name: "UnlockHost", Module: "node", Summary: "Allow scheduling onto a compute host again.", Admin: true, Mutates: true}, s.unlockHost),
	)
}

type createTokenRequest struct {
	SetID string   `doc:"compute set to join; the first one when absent"`
	Roles []string `validate:"dive,oneof=Management Compute Storage" doc:"Management, Compute, Storage; every host does all that it can"`
	TTL   int      `default:"3600" validate:"min=60,max=604800" doc:"seconds"`
	Name  string   `doc:"name of the only host that may use it"`
}

type createTokenResponse struct {
	TokenID     string
	Token       string `doc:"shown once"`
	JoinCommand string
	ExpireTime  int64
}

// hostName is what a host may be called.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

func (s *Service) createToken(ctx context.Context, c *action.Call, q *createTokenRequest) (*createTokenResponse, error) {
	if q.Name != "" && !hostName.MatchString(q.Name) {
		return nil, retcode.InvalidParameter.Errorf("Name is a host name of 1 to 63 letters, digits, dots and hyphens")
	}
	if err := s.Catalog.AdmitNode(ctx, s.DB.Reader(), c.Region); err != nil {
		return nil, err
	}
	if s.Authority == nil {
		return nil, retcode.InvalidResourceState.Errorf("a simulated cloud takes no host in")
	}
	if q.SetID == "" {
		q.SetID = firstComputeSet
	}
	found, err := s.DB.Reader().NewSelect().Model((*computeSet)(nil)).Where("id = ? AND region = ?", q.SetID, c.Region).Exists(ctx)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, retcode.SetNotFound.Errorf("SetID %q", q.SetID)
	}
	token, err := s.Authority.NewToken()
	if err != nil {
		return nil, err
	}
	now := s.Clock.Now()
	row := hostToken{ID: database.NewID("token"), Region: c.Region, Hash: token.Hash(), Name: q.Name, ComputeSet: q.SetID,
		ExpiresAt: now.Add(time.Duration(q.TTL) * time.Second).UnixMicro(), CreatedAt: now.UnixMicro(), UpdatedAt: now.UnixMicro()}
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	c.AddResource(row.ID)
	return &createTokenResponse{TokenID: row.ID, Token: token.String(), ExpireTime: row.ExpiresAt / 1e6,
		JoinCommand: fmt.Sprintf("lingyun agent join %s --controller %s", token, s.JoinURL)}, nil
}

// refused is why a host may not join, with its HTTP status.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return r.text }

// ServeJoin takes new hosts in (hostlink.JoinPath): a token for a certificate. A name that is there
// already gets a new certificate for its id, and the old one is refused from then on.
func (s *Service) ServeJoin(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	answer, err := s.join(r)
	var no *refused
	switch {
	case err == nil:
		_ = json.NewEncoder(w).Encode(answer)
	case errors.As(err, &no):
		slog.Warn("a host was refused", "client", r.RemoteAddr, "reason", no.text)
		w.WriteHeader(no.status)
		_ = json.NewEncoder(w).Encode(hostlink.JoinRefusal{Message: no.text})
	default:
		slog.Error("a host could not join", "client", r.RemoteAddr, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(hostlink.JoinRefusal{Message: "the controller failed, its log says why"})
	}
}

func (s *Service) join(r *http.Request) (*hostlink.JoinResponse, error) {
	ctx := r.Context()
	if r.Method != http.MethodPost {
		return nil, &refused{http.StatusMethodNotAllowed, "POST"}
	}
	if s.Authority == nil {
		return nil, &refused{http.StatusNotFound, "a simulated cloud takes no host in"}
	}
	var q hostlink.JoinRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 64<<10)).Decode(&q); err != nil {
		return nil, &refused{http.StatusBadRequest, "the body is not a join request: " + err.Error()}
	}
	token, err := pki.ParseToken(q.Token)
	if err != nil {
		return nil, &refused{http.StatusForbidden, "the token is not valid"}
	}
	if !hostName.MatchString(q.Name) {
		return nil, &refused{http.StatusBadRequest, "Name is a host name of 1 to 63 letters, digits, dots and hyphens"}
	}
	address, port, err := net.SplitHostPort(q.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || net.ParseIP(address) == nil && !hostName.MatchString(address) {
		return nil, &refused{http.StatusBadRequest, "Address is the agent's HOST:PORT as the controller reaches it"}
	}

	var row hostToken
	err = s.DB.Reader().NewSelect().Model(&row).Where("hash = ?", token.Hash()).Scan(ctx)
	now := s.Clock.Micros()
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, &refused{http.StatusForbidden, "the token is not valid"}
	case err != nil:
		return nil, err
	case row.Host != "":
		return nil, &refused{http.StatusForbidden, "the token was used already"}
	case row.ExpiresAt <= now:
		return nil, &refused{http.StatusForbidden, "the token has expired"}
	case row.Name != "" && row.Name != q.Name:
		return nil, &refused{http.StatusForbidden, "the token is for a host of another name"}
	}
	var old hostRow
	err = s.DB.Reader().NewSelect().Model(&old).Where("region = ? AND name = ?", row.Region, q.Name).Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	id := old.ID
	if id == "" {
		id = database.NewID("host")
	}
	certificate, serial, err := s.Authority.IssueHost([]byte(q.CSR), id)
	if err != nil {
		return nil, &refused{http.StatusBadRequest, "CSR: " + err.Error()}
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		used, err := tx.NewRaw(`UPDATE host_token SET host = ?, updated_at = ?, generation = generation + 1 WHERE id = ? AND host = ''`, id, now, row.ID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := used.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, &refused{http.StatusForbidden, "the token was used already"})
		}
		if old.ID == "" {
			if err := s.Catalog.AdmitNode(ctx, tx, row.Region); err != nil {
				if no, ok := errors.AsType[*retcode.Error](err); ok {
					return &refused{http.StatusForbidden, no.Detail()}
				}
				return err
			}
			_, err = tx.NewInsert().Model(&hostRow{ID: id, Region: row.Region, Name: q.Name, ComputeSet: row.ComputeSet, StorageSet: firstStorageSet,
				Address: q.Address, Serial: serial, CreatedAt: now, UpdatedAt: now}).Exec(ctx)
			return err
		}
		if err := s.replaceSerial(ctx, tx, id, serial); err != nil {
			return err
		}
		_, err = tx.NewRaw(`UPDATE host SET address = ?, updated_at = ? WHERE id = ?`, q.Address, now, id).Exec(ctx)
		return err
	})
	if database.IsUnique(err) {
		return nil, &refused{http.StatusConflict, "another host of this name is joining"}
	}
	if err != nil {
		return nil, err
	}
	if err := s.readRevoked(ctx); err != nil {
		return nil, err
	}
	if err := s.reload(ctx); err != nil {
		return nil, err
	}
	s.health.Signal()
	slog.Info("a host joined", "host", id, "name", q.Name, "address", q.Address)
	return &hostlink.JoinResponse{HostID: id, Certificate: string(certificate), CA: string(s.Authority.CertificatePEM()),
		Region: row.Region, ComputeSet: row.ComputeSet, OVN: hostlink.JoinOVN{Southbound: s.Southbound}}, nil
}

// replaceSerial notes a host's new certificate and refuses the old one.
func (s *Service) replaceSerial(ctx context.Context, tx bun.Tx, hostID, serial string) error {
	now := s.Clock.Micros()
	if _, err := tx.NewRaw(`INSERT INTO revoked_certificate (serial, created_at) SELECT serial, ? FROM host WHERE id = ? AND serial <> '' AND serial <> ?
		ON CONFLICT (serial) DO NOTHING`, now, hostID, serial).Exec(ctx); err != nil {
		return err
	}
	_, err := tx.NewRaw(`UPDATE host SET serial = ?, updated_at = ?, generation = generation + 1 WHERE id = ?`, serial, now, hostID).Exec(ctx)
	return err
}

// readRevoked tells the link which certificates are refused. Those that have expired anyway are forgotten.
func (s *Service) readRevoked(ctx context.Context) error {
	if s.Revoked == nil {
		return nil
	}
	var serials []string
	if err := s.DB.Reader().NewRaw(`SELECT serial FROM revoked_certificate WHERE created_at > ?`,
		s.Clock.Now().Add(-pki.HostLifetime).UnixMicro()).Scan(ctx, &serials); err != nil {
		return err
	}
	s.Revoked.Set(serials)
	return nil
}

// renewCertificates gives hosts a new certificate when theirs ends within pki.RenewBefore. Hosts that do
// not answer are asked again at the next run.
func (s *Service) renewCertificates(ctx context.Context) error {
	if s.Authority == nil {
		return nil
	}
	var failed error
	for _, h := range s.Hosts() {
		if h.State == Down {
			continue
		}
		if err := s.renewCertificate(ctx, h.ID); err != nil {
			failed = errors.Join(failed, fmt.Errorf("certificate of host %s: %w", h.ID, err))
		}
	}
	return failed
}

func (s *Service) renewCertificate(ctx context.Context, hostID string) error {
	host := s.Host(hostID)
	r, err := host.CertificateRequest(ctx, &pb.CertificateRequestRequest{})
	if err != nil || time.Until(time.Unix(r.NotAfter, 0)) > pki.RenewBefore {
		return err
	}
	certificate, serial, err := s.Authority.IssueHost(r.CsrPem, hostID)
	if err != nil {
		return err
	}
	if _, err := host.InstallCertificate(ctx, &pb.InstallCertificateRequest{CertificatePem: certificate, CaPem: s.Authority.CertificatePEM()}); err != nil {
		return err
	}
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.replaceSerial(ctx, tx, hostID, serial) }); err != nil {
		return err
	}
	return s.readRevoked(ctx)
}
