package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Options of a Handler. Authenticator is the only one that must be given.
type Options struct {
	Authenticator Authenticator
	// Gate, Auditor: nil asks and records nothing.
	Gate    Gate
	Auditor Auditor
	// Session resolves the token of a console session; nil: no session is known (20011).
	// The caller's Session is set.
	Session func(ctx context.Context, token string) (*Caller, error)
	// Proxies are the networks of reverse proxies whose X-Forwarded headers are believed; nobody's else are.
	Proxies []netip.Prefix
	// Admit refuses callers by address (112), after authentication; nil admits all.
	Admit func(ctx context.Context, c *Call) error
	// Permit refuses actions that the tenant's services or the caller's roles do not grant (114); nil grants all.
	Permit func(ctx context.Context, c *Call, spec Spec) error
	// Approve is asked to run actions that may need an approval; it may keep the request instead, and answer with
	// the fields of its own answer as JSON. nil runs them.
	Approve func(ctx context.Context, c *Call, spec Spec, r Request, run func(context.Context) ([]byte, error)) ([]byte, error)

	Log *slog.Logger // slog.Default when nil
	// Metrics is where request counters are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Now is the cloud's clock, for Call.Received; time.Now when nil.
	Now func() time.Time

	// MaxBody bounds a request body, in bytes (113); 0 means 4 MiB: user data of 1 MiB in base64,
	// percent-encoded, with room.
	MaxBody int64
	// MaxParameters bounds the parameters of query and body, each (113); 0 means 2,000.
	MaxParameters int
	// Limits bound the rate of calls (199).
	Limits Limits
}

// Limits of calls; a zero value means the default in parentheses, a negative one no limit.
type Limits struct {
	KeyRate  float64 // calls a second of one key (5,000)
	KeyBurst int     // calls of one key at once (10,000)
	// FailureRate is how many wrong signatures an address may send a second (50).
	FailureRate float64
	// OpenRate is how many calls without a credential an address may send a second (50), twice as many at once.
	OpenRate float64
}

// Bounds of what the handler keeps and reads.
const (
	defaultMaxBody       = 4 << 20
	defaultMaxParameters = 2000
	glance               = 512      // bytes of a refused body in which the name of the action may stand
	drained              = 64 << 20 // bytes of a refused body that are read, so that the client sees the answer
)

// Handler answers the API's endpoint.
type Handler struct {
	o       Options
	table   map[string]*Action
	actions []Action
	limits  *limits
	metrics *metrics
	langs   languages
	openapi func() []byte
}

// NewHandler makes the endpoint of a table of actions. It panics when a name is registered twice.
func NewHandler(actions []Action, o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.MaxParameters == 0 {
		o.MaxParameters = defaultMaxParameters
	}
	h := &Handler{o: o, table: make(map[string]*Action, len(actions)), actions: actions,
		limits: newLimits(o.Limits), metrics: newMetrics(o.Metrics), langs: newLanguages()}
	for i := range actions {
		a := &actions[i]
		if h.table[a.Name] != nil {
			panic("action " + a.Name + " is registered twice")
		}
		h.table[a.Name] = a
	}
	h.openapi = sync.OnceValue(func() []byte { return OpenAPI(actions) })
	return h
}

// Actions of the table, as registered.
func (h *Handler) Actions() []Action { return h.actions }

// Mount adds the endpoint (/api, /api/ and /) and its description to a mux.
func (h *Handler) Mount(mux *http.ServeMux) {
	for _, path := range []string{"/api", "/api/{$}", "/{$}"} {
		mux.Handle(path, h)
	}
	mux.HandleFunc("GET /api/openapi.json", h.ServeOpenAPI)
}

// ServeOpenAPI answers the OpenAPI document of the table.
func (h *Handler) ServeOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(h.openapi())
}

// ServeHTTP answers one call. Business errors are HTTP 200; only a method that cannot carry a
// call is refused by HTTP.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
		return
	}
	start := time.Now()
	c, from := h.call(r)
	known, body, err := h.answer(r, c)
	code := retcode.Of(err)
	out := envelope(c, body, err)

	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(out)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header["X-UCLOUD-REQUEST-UUID"] = []string{c.RequestID}
	if err == nil && c.SessionCookie != nil {
		http.SetCookie(w, sessionCookie(*c.SessionCookie, from.tls))
	}
	w.Write(out)

	elapsed := time.Since(start)
	name := c.Action
	if !known {
		name = "unknown"
	}
	h.metrics.observe(name, code, elapsed)
	h.log(r.Context(), c, name, code, err, elapsed)
}

// CallOf is what the wire knows of a request that is no call of the API, but acts like one: a login page's.
func (h *Handler) CallOf(r *http.Request) *Call {
	c, _ := h.call(r)
	return c
}

func (h *Handler) call(r *http.Request) (*Call, origin) {
	c := &Call{
		RequestID:  uuid.NewString(),
		AuthMethod: r.Header.Get("X-Auth-Method"),
		Language:   h.langs.of(r.Header.Get("Accept-Language")),
		Received:   h.o.Now(),
	}
	from := h.origin(r)
	c.ClientIP, c.Secure = from.ip, from.secure
	return c, from
}

// log writes the access log: no parameters, so no password, signature or user data either.
func (h *Handler) log(ctx context.Context, c *Call, name string, code retcode.Code, err error, elapsed time.Duration) {
	level, detail := slog.LevelInfo, ""
	if err != nil {
		detail = err.Error()
		if code.Internal() && ctx.Err() == nil {
			level = slog.LevelError
		}
	}
	if !h.o.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request", c.RequestID), slog.String("action", name), slog.Int("code", int(code)),
		slog.Int64("account", c.Caller.Account), slog.Int64("company", c.Company),
		slog.String("client", c.ClientIP.String()), slog.Duration("took", elapsed),
	}
	if detail != "" {
		attrs = append(attrs, slog.String("error", detail))
	}
	h.o.Log.LogAttrs(ctx, level, "call", attrs...)
}

// answer does the work of one call in the order of decisions 11. known tells that c.Action is in the table.
func (h *Handler) answer(r *http.Request, c *Call) (known bool, body []byte, err error) {
	p, fail := h.read(r)
	if fail != nil {
		c.Action = nameOf(p)
		return h.table[c.Action] != nil, nil, fail
	}
	c.Action = p.get(paramAction)
	if c.Action == "" {
		return false, nil, retcode.MissingAction.Errorf("send the name of the action as the parameter Action")
	}
	a := h.table[c.Action]
	if a == nil {
		return false, nil, retcode.ActionNotFound.Errorf("Action %s", shown(c.Action))
	}
	open := a.Anonymous
	authenticated := open
	ctx := WithCall(r.Context(), c)
	defer func() {
		if v := recover(); v != nil {
			body, err = nil, a.failure().Errorf("request %s", c.RequestID).
				Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
		var coded *retcode.Error
		if err != nil && !errors.As(err, &coded) {
			body, err = nil, a.failure().Errorf("request %s", c.RequestID).Wrap(err)
		}
		// After a failure there is no entry, even when a transaction that was rolled back had written one.
		if a.Mutates && authenticated && (!c.Audited || err != nil) && h.o.Auditor != nil && retcode.Of(err) != retcode.TooManyRequests {
			h.record(ctx, c, a.Spec, err)
		}
	}()
	if open && a.Optional {
		open = !h.credential(r, p)
	}
	if open {
		if !h.limits.allowOpen(c.ClientIP) {
			return true, nil, retcode.TooManyRequests.Errorf("an address may call %d times a second without a credential", int(h.limits.OpenRate))
		}
	} else {
		err := h.authenticate(ctx, r, c, p)
		if err != nil && !(a.Optional && retcode.Of(err) == retcode.SSOTokenInvalid) { // a session that is over is none
			return true, nil, err
		}
		authenticated = true
	}
	in := a.impl.request.collect(p)
	if err := h.admit(ctx, c, a, p); err != nil {
		return true, nil, err
	}
	run := func(ctx context.Context) ([]byte, error) { return a.impl.call(ctx, c, in) }
	if h.o.Approve != nil && a.Approvable() {
		if err := a.impl.check(in); err != nil {
			return true, nil, err
		}
		body, err = h.o.Approve(ctx, c, a.Spec, Request{p}, run)
		return true, body, err
	}
	body, err = run(ctx)
	return true, body, err
}

// record survives the client's hanging up, and a panic of the auditor.
func (h *Handler) record(ctx context.Context, c *Call, s Spec, err error) {
	defer func() {
		if v := recover(); v != nil {
			h.o.Log.Error("the call could not be recorded", "request", c.RequestID, "panic", v)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	h.o.Auditor.Record(ctx, c, s, err)
}

// nameOf finds the action in parameters that could not be read to their end, for the envelope.
func nameOf(p params) string {
	for i := range p {
		if p[i].name == paramAction && p[i].value.scalar() {
			return p[i].value.text
		}
	}
	return ""
}

// read decodes the parameters. On a failure it returns what was read, for the envelope's Action.
func (h *Handler) read(r *http.Request) (params, *retcode.Error) {
	query, fail := parseForm(r.URL.RawQuery, h.o.MaxParameters)
	if r.Method != http.MethodPost {
		return query, fail
	}
	raw, tooLarge := h.body(r)
	switch {
	case fail != nil:
		return query, fail
	case tooLarge != nil:
		head, _ := parseForm(string(raw), h.o.MaxParameters)
		return append(head, query...), tooLarge
	case len(raw) == 0:
		return query, nil
	}
	var body params
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Header.Get("Content-Encoding") != "" || strings.HasPrefix(media, "multipart/"):
		return query, retcode.InvalidParameterFormat.Errorf("the body must be application/x-www-form-urlencoded or application/json, not compressed")
	case media == "application/json", media != "application/x-www-form-urlencoded" && firstByte(raw) == '{':
		body, fail = parseJSON(raw, h.o.MaxParameters)
	default:
		body, fail = parseForm(strings.TrimSpace(string(raw)), h.o.MaxParameters)
	}
	if fail != nil {
		return append(body, query...), fail
	}
	return merge(query, body), nil
}

// body reads the body up to the limit, or the beginning of a longer one. A longer one is read on and dropped up to a point, because
// a client that is still sending does not see the answer.
func (h *Handler) body(r *http.Request) ([]byte, *retcode.Error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, h.o.MaxBody+1))
	if err != nil {
		return nil, retcode.InvalidParameterFormat.Errorf("the body ended early").Wrap(err)
	}
	if int64(len(raw)) > h.o.MaxBody {
		io.CopyN(io.Discard, r.Body, drained)
		return raw[:min(len(raw), glance)], retcode.InvalidParameter.Errorf("the body must have at most %d bytes", h.o.MaxBody)
	}
	return raw, nil
}

func firstByte(b []byte) byte {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c
		}
	}
	return 0
}

// nobody's private key: an unknown public key is verified against it, so that its refusal takes
// as long as that of a wrong signature.
var nobody = uuid.NewString() + uuid.NewString()

// authenticate finds out who calls: 100, 103, 104, 105, 109, 20011, then 20001, 27004, 112 and 199.
func (h *Handler) authenticate(ctx context.Context, r *http.Request, c *Call, p params) error {
	key := p.get(paramPublicKey)
	var err error
	if key == "" {
		err = h.session(ctx, r, c, p)
	} else {
		err = h.signature(ctx, c, p, key)
	}
	if err != nil {
		return err
	}
	c.Company, c.Member = c.Caller.Company, c.Caller.Account
	if c.Caller.Admin {
		c.Company = 0
	}
	switch {
	case c.Caller.Locked:
		return retcode.AccountNotActivated.Errorf("account %d", c.Caller.Account)
	case c.Caller.Frozen:
		return retcode.AccountFrozen.Errorf("account %d", c.Caller.Account)
	case c.Caller.TenantFrozen:
		return retcode.TenantFrozen.Errorf("tenant %d", c.Caller.Company)
	}
	if !c.Caller.MayCallFrom(c.ClientIP) {
		return retcode.IPNotInWhitelist.Errorf("you call from %s", c.ClientIP)
	}
	if h.o.Admit != nil {
		if err := h.o.Admit(ctx, c); err != nil {
			return err
		}
	}
	if key == "" {
		key = "account " + strconv.FormatInt(c.Caller.Account, 10)
	}
	if !h.limits.allowKey(key) {
		return retcode.TooManyRequests.Errorf("a key may call %d times a second", int(h.limits.KeyRate))
	}
	return nil
}

func (h *Handler) signature(ctx context.Context, c *Call, p params, key string) error {
	given := p.get(paramSignature)
	if given == "" {
		return retcode.MissingSignature.Errorf("sign the request with the private key of PublicKey")
	}
	if h.limits.failing(c.ClientIP) && !h.limits.seen(key) {
		return retcode.TooManyRequests.Errorf("an address may send %d wrong signatures a second", int(h.limits.FailureRate))
	}
	var credential *Credential
	if clean(key) {
		var err error
		if credential, err = h.o.Authenticator.Key(ctx, key); err != nil {
			return err
		}
	}
	private := nobody
	if credential != nil && credential.PrivateKey != "" {
		private = credential.PrivateKey
	}
	valid := p.verify(given, private)
	if !valid || credential == nil || credential.PrivateKey == "" || credential.Disabled || credential.Expires != 0 && c.Received.UnixMicro() >= credential.Expires {
		if !h.limits.fail(c.ClientIP) {
			return retcode.TooManyRequests.Errorf("an address may send %d wrong signatures a second", int(h.limits.FailureRate))
		}
		return retcode.InvalidSignature.Errorf("check PublicKey and how Signature is computed")
	}
	c.Caller = credential.Caller
	c.Caller.Key = key
	return nil
}

// admit checks what is common to all actions: 102, the gate's region, 114, 111.
func (h *Handler) admit(ctx context.Context, c *Call, a *Action, p params) error {
	if a.Region != RegionNone {
		if c.Region = p.get(paramRegion); c.Region == "" && a.Region == RegionRequired {
			return retcode.MissingRegion.Errorf("send the id of a region as the parameter Region, see DescribeRegion")
		}
		if !clean(c.Region) {
			return retcode.InvalidParameterFormat.Errorf("%s must not contain control characters", paramRegion)
		}
		if c.Region != "" && h.o.Gate != nil {
			if err := h.o.Gate.Region(ctx, c); err != nil {
				return err
			}
		}
	}
	if a.Anonymous {
		return nil
	}
	switch caller := &c.Caller; {
	case a.Admin && !caller.Admin:
		return retcode.AdminOnly.Errorf("%s is for platform administrators", a.Name)
	case a.System && caller.OfRegions():
		return retcode.ActionForbidden.Errorf("%s is for administrators of the whole platform", a.Name)
	case a.Mutates && caller.ReadOnly && !a.Personal:
		return retcode.ActionForbidden.Errorf("a read-only administrator may not call %s", a.Name)
	case c.Region != "" && !caller.MayUse(c.Region):
		return retcode.ActionForbidden.Errorf("region %s is not granted to you", c.Region)
	}
	if h.o.Permit != nil {
		if err := h.o.Permit(ctx, c, a.Spec); err != nil {
			return err
		}
	}
	var malformed error
	if !a.impl.request.ownCompany {
		company, err := common(p, paramCompany)
		switch {
		case err != nil:
			malformed = err
		case company == 0 || company == c.Caller.Company && !c.Caller.Admin:
		case !c.Caller.Admin:
			return retcode.AdminOnly.Errorf("CompanyID %d is another tenant", company)
		default:
			if h.o.Gate != nil {
				if err := h.o.Gate.Tenant(ctx, company); err != nil {
					return err
				}
			}
			c.Company = company
		}
	}
	if !a.impl.request.ownMember {
		member, err := common(p, paramMember)
		switch {
		case err != nil:
			malformed = errors.Join(malformed, err)
		case member == 0 || member == c.Caller.Account:
		case !c.Caller.Admin:
			return retcode.AdminOnly.Errorf("MemberID %d is another account", member)
		default:
			c.Member = member
		}
	}
	if malformed != nil && !a.impl.request.takes(paramCompany, paramMember) {
		return malformed
	}
	return nil
}
