package compute

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"image/png"
	"io"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/console"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
)

// consoleSession is a row of permissions to connect to a console.
type consoleSession struct {
	bun.BaseModel `bun:"table:console_session"`

	ID        string `bun:"id,pk"`
	VMID      string `bun:"vm_id"`
	Region    string `bun:"region"`
	Company   int64  `bun:"company"`
	Kind      string `bun:"kind"`
	Ticket    string `bun:"ticket"`
	Password  string `bun:"password"`
	CreatedAt int64  `bun:"created_at"`
	ExpireAt  int64  `bun:"expire_at"`
	UsedAt    int64  `bun:"used_at"`
}

// Kinds of consoles.
const (
	screenConsole = "VNC"
	serialConsole = "Serial"
	spiceConsole  = "SPICE"
)

func (s *Service) consoleActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "GetVMVNCInfo", Module: "vm", Mutates: true,
			Summary: "Open the screen of a virtual machine to one VNC program, or look an open session up."}, s.getVNCInfo),
		action.Define(action.Spec{Name: "AllocateVMVNCSession", Module: "vm", Mutates: true,
			Summary: "Open the screen of a virtual machine to one browser."}, s.allocateVNC),
		action.Define(action.Spec{Name: "GetVMSpiceInfo", Module: "vm", Mutates: true, Extension: true,
			Summary: "Open the screen of a virtual machine to one SPICE program."}, s.getSpiceInfo),
		action.Define(action.Spec{Name: "AllocateVMSerialSession", Module: "vm", Mutates: true, Extension: true,
			Summary: "Open the serial console of a virtual machine to one browser."}, s.allocateSerial),
		action.Define(action.Spec{Name: "GetVMConsoleLog", Module: "vm", Extension: true,
			Summary: "Read the end of what a virtual machine said on its serial port."}, s.consoleLog),
		action.Define(action.Spec{Name: "GetVMScreenshot", Module: "vm", Extension: true,
			Summary: "Take a picture of the screen of a virtual machine."}, s.screenshot),
	}
}

type vmRequest struct {
	VMID string `validate:"required" doc:"virtual machine id"`
	action.Tenant
}

// usable finds a machine that runs, for what is done inside of it or seen of it.
func (s *Service) usable(ctx context.Context, c *action.Call, id string) (*VM, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), id)
	if err != nil {
		return nil, err
	}
	if err := s.Ledger.Check(ctx, s.DB.Reader(), v.ID); err != nil {
		return nil, err
	}
	if err := check(v, Use); err != nil {
		return nil, err
	}
	return v, nil
}

// guestFailure says what a call about a guest that failed means to who waits for it.
func guestFailure(v *VM, err error, what string) error {
	if errors.Is(err, fleet.ErrHostDown) {
		return retcode.SystemBusy.Errorf("the host of %s does not answer", v.ID).Wrap(err)
	}
	if errors.Is(err, hostlink.ErrNotFound) {
		return retcode.InvalidVMState.Errorf("%s does not run", v.ID).Wrap(err)
	}
	return retcode.SystemBusy.Errorf("%s %s", what, v.ID).Wrap(err)
}

// letters of passwords and tickets.
const letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

func randomText(n int) string {
	out := make([]byte, n)
	rand.Read(out)
	for i, b := range out {
		out[i] = letters[int(b)%len(letters)] // 56 letters: the first 32 come a fifth more often, of 5.8 bits each
	}
	return string(out)
}

func sessionContext(id string) string { return "console_session.password:" + id }

func ticketHash(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return hex.EncodeToString(sum[:])
}

// openSession makes a session. Its ticket is known to the caller alone.
func (s *Service) openSession(ctx context.Context, v *VM, kind string) (row *consoleSession, ticket, password string, err error) {
	now := s.Clock.Now()
	row = &consoleSession{ID: database.NewID("vnc"), VMID: v.ID, Region: v.Region, Company: v.Company, Kind: kind,
		CreatedAt: now.UnixMicro(), ExpireAt: now.Add(console.Life).UnixMicro()}
	ticket = randomText(40)
	row.Ticket = ticketHash(ticket)
	if kind != serialConsole {
		password = randomText(map[string]int{screenConsole: rfb.PasswordLength, spiceConsole: spicePassword}[kind])
		row.Password = s.Secret.Seal([]byte(password), sessionContext(row.ID))
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(row).Exec(ctx)
		return err
	})
	return row, ticket, password, err
}

type vncInfoRequest struct {
	VMID      string `validate:"required" doc:"virtual machine id"`
	SessionID string `doc:"an open session, from AllocateVMVNCSession; empty: a new one"`
	action.Tenant
}

type vncInfo struct {
	VMID        string
	VNCIP       string
	VNCPort     int `doc:"open for one connection; 0: the session is a browser's"`
	VNCPassword string
}

type vncInfoResponse struct {
	Info       vncInfo
	SessionID  string
	ExpireTime int64 `doc:"until when it may connect"`
}

func (s *Service) getVNCInfo(ctx context.Context, c *action.Call, q *vncInfoRequest) (*vncInfoResponse, error) {
	v, err := s.usable(ctx, c, q.VMID)
	if err != nil {
		return nil, err
	}
	c.AddResource(v.ID)
	if q.SessionID != "" {
		row, err := s.session(ctx, "id = ? AND vm_id = ?", q.SessionID, v.ID)
		if err != nil {
			return nil, err
		}
		password, err := s.password(row)
		if err != nil {
			return nil, err
		}
		return &vncInfoResponse{Info: vncInfo{VMID: v.ID, VNCIP: s.Console.Host, VNCPassword: password}, SessionID: row.ID, ExpireTime: seconds(row.ExpireAt)}, nil
	}
	row, _, password, err := s.openSession(ctx, v, screenConsole)
	if err != nil {
		return nil, err
	}
	at, err := s.Console.Listen(&console.Session{ID: row.ID, VM: v.ID, Password: password})
	if err != nil {
		return nil, retcode.SystemBusy.Errorf("no port is free for %s", v.ID).Wrap(err)
	}
	return &vncInfoResponse{Info: vncInfo{VMID: v.ID, VNCIP: at.IP.String(), VNCPort: at.Port, VNCPassword: password},
		SessionID: row.ID, ExpireTime: seconds(row.ExpireAt)}, nil
}

// spicePassword is how many letters one has.
const spicePassword = 20

type spiceInfo struct {
	VMID          string
	SpiceIP       string
	SpicePort     int `doc:"open for one program"`
	SpicePassword string
	ExpireTime    int64 `doc:"until when it may connect"`
}

type spiceInfoResponse struct{ Info spiceInfo }

// getSpiceInfo looks first whether the machine has SPICE: its host's QEMU may come without, or came without when the
// machine was started (1006).
func (s *Service) getSpiceInfo(ctx context.Context, c *action.Call, q *vmRequest) (*spiceInfoResponse, error) {
	v, err := s.usable(ctx, c, q.VMID)
	if err != nil {
		return nil, err
	}
	c.AddResource(v.ID)
	at, err := s.Fleet.Host(v.HostID).Console(ctx, v.ID, pb.ConsoleKind_CONSOLE_KIND_SPICE)
	switch {
	case errors.Is(err, hostlink.ErrInvalid):
		return nil, retcode.InvalidVMState.Errorf("QEMU of the host of %s has no SPICE: install it there (Debian 13: qemu-system-modules-spice) and restart the agent", v.ID).Wrap(err)
	case errors.Is(err, hostlink.ErrNotFound):
		return nil, retcode.InvalidVMState.Errorf("%s was started without SPICE: stop and start it", v.ID).Wrap(err)
	case err != nil:
		return nil, guestFailure(v, err, "there is no screen of")
	}
	at.Close()
	row, _, password, err := s.openSession(ctx, v, spiceConsole)
	if err != nil {
		return nil, err
	}
	port, err := s.Console.ListenSpice(&console.Session{ID: row.ID, VM: v.ID, Spice: true, Password: password})
	if err != nil {
		return nil, retcode.SystemBusy.Errorf("no port is free for %s", v.ID).Wrap(err)
	}
	return &spiceInfoResponse{spiceInfo{VMID: v.ID, SpiceIP: port.IP.String(), SpicePort: port.Port, SpicePassword: password, ExpireTime: seconds(row.ExpireAt)}}, nil
}

type sessionResponse struct {
	SessionID  string
	URL        string `doc:"path of a WebSocket on this endpoint's host; it works once"`
	ExpireTime int64  `doc:"until when it must be connected, 300 s ahead"`
}

func (s *Service) allocateVNC(ctx context.Context, c *action.Call, q *vmRequest) (*sessionResponse, error) {
	return s.allocate(ctx, c, q.VMID, screenConsole)
}

func (s *Service) allocateSerial(ctx context.Context, c *action.Call, q *vmRequest) (*sessionResponse, error) {
	return s.allocate(ctx, c, q.VMID, serialConsole)
}

func (s *Service) allocate(ctx context.Context, c *action.Call, id, kind string) (*sessionResponse, error) {
	v, err := s.usable(ctx, c, id)
	if err != nil {
		return nil, err
	}
	row, ticket, _, err := s.openSession(ctx, v, kind)
	if err != nil {
		return nil, err
	}
	c.AddResource(v.ID)
	return &sessionResponse{SessionID: row.ID, URL: console.Path + ticket, ExpireTime: seconds(row.ExpireAt)}, nil
}

// session finds a session that is not over: 1009, 1010.
func (s *Service) session(ctx context.Context, query string, args ...any) (*consoleSession, error) {
	rows, err := database.Find[consoleSession](ctx, s.DB.Reader(), "WHERE "+query, args...)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, retcode.VNCSessionNotFound.Errorf("no such session")
	}
	if rows[0].ExpireAt <= s.Clock.Micros() {
		return nil, retcode.VNCSessionExpired.Errorf("the session waited %s", console.Life)
	}
	return &rows[0], nil
}

func (s *Service) password(row *consoleSession) (string, error) {
	if row.Password == "" {
		return "", nil
	}
	plain, err := s.Secret.Open(row.Password, sessionContext(row.ID))
	return string(plain), err
}

// Redeem implements console.Sessions.
func (s *Service) Redeem(ctx context.Context, ticket, id string) (*console.Session, error) {
	column, value := "id", id
	if id == "" {
		column, value = "ticket", ticketHash(ticket)
	}
	row, err := s.session(ctx, column+" = ?", value)
	if err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewUpdate().Model(row).Set("used_at = ?", s.Clock.Micros()).Where("id = ? AND used_at = 0", row.ID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return retcode.VNCSessionExpired.Errorf("the session was connected already")
	})
	if err != nil {
		return nil, err
	}
	password, err := s.password(row)
	return &console.Session{ID: row.ID, VM: row.VMID, Serial: row.Kind == serialConsole, Spice: row.Kind == spiceConsole, Password: password}, err
}

// Open implements console.Sessions.
func (s *Service) Open(ctx context.Context, at *console.Session) (io.ReadWriteCloser, error) {
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, at.VM)
	if err != nil {
		return nil, err
	}
	if err := check(v, Use); err != nil {
		return nil, err
	}
	kind := pb.ConsoleKind_CONSOLE_KIND_VNC
	switch {
	case at.Serial:
		kind = pb.ConsoleKind_CONSOLE_KIND_SERIAL
	case at.Spice:
		kind = pb.ConsoleKind_CONSOLE_KIND_SPICE
	}
	c, err := s.Fleet.Host(v.HostID).Console(ctx, v.ID, kind)
	if err != nil {
		return nil, guestFailure(v, err, "there is no console of")
	}
	return c, nil
}

// sweepSessions forgets sessions that were over an hour ago: until then they answer 1010.
func (s *Service) sweepSessions(ctx context.Context, tx bun.Tx) error {
	_, err := tx.NewDelete().Model((*consoleSession)(nil)).Where("expire_at <= ?", s.Clock.Now().Add(-time.Hour).UnixMicro()).Exec(ctx)
	return err
}

type consoleLogRequest struct {
	VMID  string `validate:"required" doc:"virtual machine id"`
	Lines int    `default:"500" validate:"min=1,max=5000" doc:"last lines"`
	action.Tenant
}

type consoleLogResponse struct {
	Output     string `doc:"base64"`
	UpdateTime int64
}

// lineBytes is how much of the log is read for one line, at most.
const lineBytes = 512

func (s *Service) consoleLog(ctx context.Context, c *action.Call, q *consoleLogRequest) (*consoleLogResponse, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	if !v.Listed {
		return nil, check(v, Start) // in the bin, or destroyed
	}
	if v.HostID == "" {
		return &consoleLogResponse{}, nil
	}
	r, err := s.Fleet.Host(v.HostID).ConsoleLog(ctx, &pb.ConsoleLogRequest{Id: v.ID, MaxBytes: uint32(q.Lines * lineBytes)})
	if err != nil {
		return nil, guestFailure(v, err, "the log could not be read of")
	}
	lines := strings.SplitAfter(string(r.Tail), "\n")
	if n := len(lines); n > 0 && lines[n-1] == "" {
		lines = lines[:n-1]
	}
	text := strings.Join(lines[max(0, len(lines)-q.Lines):], "")
	return &consoleLogResponse{Output: base64.StdEncoding.EncodeToString([]byte(text)), UpdateTime: r.UpdatedAt}, nil
}

type screenshotResponse struct {
	ImageData string `doc:"PNG, base64"`
}

// screenshotTime is how long a picture may take.
const screenshotTime = 10 * time.Second

func (s *Service) screenshot(ctx context.Context, c *action.Call, q *vmRequest) (*screenshotResponse, error) {
	v, err := s.usable(ctx, c, q.VMID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, screenshotTime)
	defer cancel()
	at, err := s.Fleet.Host(v.HostID).Console(ctx, v.ID, pb.ConsoleKind_CONSOLE_KIND_VNC)
	if err != nil {
		return nil, guestFailure(v, err, "there is no screen of")
	}
	defer at.Close()
	defer context.AfterFunc(ctx, func() { at.Close() })()
	if err := rfb.Connect(at, ""); err != nil {
		return nil, guestFailure(v, err, "there is no screen of")
	}
	picture, err := rfb.Screenshot(at)
	if err != nil {
		return nil, guestFailure(v, err, "there is no picture of the screen of")
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, err
	}
	return &screenshotResponse{ImageData: base64.StdEncoding.EncodeToString(out.Bytes())}, nil
}
