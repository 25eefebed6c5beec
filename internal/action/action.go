// Package action is the wire: decoding, signatures, dispatch, envelope,
// OpenAPI. It knows no product; products register actions in one table, from
// which dispatch, validation, permission names and the description come.
package action

import (
	"context"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// RegionMode says whether an action asks for the common parameter Region.
type RegionMode int

const (
	RegionRequired RegionMode = iota
	RegionOptional
	RegionNone
)

// Spec describes an action beside its request and response types.
//
// Request types are structs with flat fields, one a parameter, decoded by name:
//
//	type startRequest struct {
//		VMID string `validate:"required" doc:"virtual machine id"`
//		Limit int   `default:"20" validate:"min=0,max=100"`
//		ChargeType string `validate:"required,oneof=Dynamic Month Year"`
//		Rules []string `alias:"Rule"`
//		DataDisks []dataDisk           // Name.0.Field=...
//		action.Tenant                  // CompanyID, MemberID
//		action.Page                    // Offset, Limit
//	}
//
// Types are string, int, int64, float64, bool, slices of them, structs and slices of structs. A
// pointer to a scalar tells absent from zero. Missing 3, unparsable 4, out of range 113, in that
// order over all parameters. A parameter whose range has a module code of its own gets no range
// here: the handler checks it.
//
// Tags of a request field:
//
//	name:"Wire"      the parameter's name when it differs from the field's
//	alias:"A,B"      other names; the first one present counts
//	default:"20"     value of an absent parameter
//	validate:"..."   tags of go-playground/validator about this one field; required means
//	                 present and not empty. Rules between fields belong to the handler.
//	loose:"true"     a string parameter accepts any JSON scalar
//	doc:"..."        one line for people
//
// An absent parameter without default keeps its zero value and is not validated.
//
// Response types are structs whose exported fields are the top-level fields of the answer;
// nil slices answer []. The tag json names a field, doc describes it.
type Spec struct {
	Name    string
	Module  string // as in actions.yaml
	Summary string
	Region  RegionMode
	// Admin: only platform administrators (111 otherwise).
	Admin bool
	// Anonymous: needs no credential.
	Anonymous bool
	// Optional, with Anonymous: a credential that comes along is checked, and the handler sees its caller.
	Optional bool
	// Personal: about the caller's own account, so that it needs no role, and read-only administrators may call it.
	Personal bool
	// System: an administrator of regions may not call it (114). It does not concern tenants.
	System bool
	// Mutates: recorded in the audit log.
	Mutates bool
	// Extension: not in actions.yaml but in extensions.yaml or docs/api-extensions.md.
	Extension bool
	// Failure is the code of a failure of our own; ServiceError (2) when 0.
	Failure retcode.Code
}

func (s Spec) failure() retcode.Code {
	if s.Failure != 0 {
		return s.Failure
	}
	return retcode.ServiceError
}

// Action is one row of the table; made by Define.
type Action struct {
	Spec
	impl *binding
}

// Define makes a row. h gets the decoded, validated request. It returns *retcode.Error for a
// failure; any other error is answered as code 2 and logged.
//
// It panics when the request or response type has a shape or a tag that the wire cannot serve:
// that is a mistake in the program and shows in its first test.
func Define[Q, R any](s Spec, h func(ctx context.Context, c *Call, q *Q) (*R, error)) Action {
	if s.Name == "" {
		panic("action: Define without a name")
	}
	request := compileRequest(s.Name, reflect.TypeFor[Q]())
	if s.Admin {
		request.names(paramCompany, retcode.MissingCompanyID)
		request.names(paramMember, retcode.MissingUserID)
	}
	response := compileResponse(s.Name, reflect.TypeFor[R]())
	return Action{Spec: s, impl: &binding{
		request:  request,
		response: response,
		check:    func(in slots) error { return request.decode(reflect.ValueOf(new(Q)).Elem(), in) },
		call: func(ctx context.Context, c *Call, in slots) ([]byte, error) {
			q := new(Q)
			if err := request.decode(reflect.ValueOf(q).Elem(), in); err != nil {
				return nil, err
			}
			r, err := h(ctx, c, q)
			if err != nil {
				return nil, err
			}
			if r == nil {
				r = new(R)
			}
			response.fill(reflect.ValueOf(r).Elem())
			return json.Marshal(r)
		},
	}}
}

// binding is what Define learned about the types of an action.
type binding struct {
	request  *object
	response *answer
	check    func(in slots) error // what call would refuse before the handler
	call     func(ctx context.Context, c *Call, in slots) ([]byte, error)
}

// Tenant is embedded in request types whose action takes the acting tenant. The values are checked
// by the wire (111) and reach the handler as Call.Company and Call.Member. A request type that
// declares CompanyID or MemberID as a field of its own takes it as an ordinary parameter: then
// the wire neither checks it nor acts on it.
type Tenant struct {
	CompanyID int64 `doc:"tenant to act on; honoured for administrators only"`
	MemberID  int64 `doc:"acting account"`
}

// Page is embedded in request types of lists.
type Page struct {
	Offset int `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit  int `default:"20" validate:"min=0,max=100" doc:"page length"`
}

// Empty is the response of actions that answer only the envelope.
type Empty struct{}

// Caller is who signed the request.
type Caller struct {
	Account int64  // account (member) id
	Email   string // login name
	Company int64  // the account's own tenant
	Admin   bool   // platform administrator
	Sub     bool   // sub-account of a tenant: may do what its roles grant
	// ReadOnly, of an administrator: may look, and change its own account.
	ReadOnly bool
	// Regions that may be used: those granted to the tenant, or those of an administrator of regions. nil: all.
	Regions []string
	// Allowed are the networks from which the account may be used (112); nil: any.
	Allowed []netip.Prefix
	Frozen  bool // account frozen: 20001
	Locked  bool // account not activated yet: 20002
	// TenantFrozen: the tenant is frozen: 27004.
	TenantFrozen bool
	// Session is the id of the session that the call came by, or Key the public key that signed it.
	Session string
	Key     string
}

// OfRegions tells an administrator of some regions from one of the whole platform.
func (c *Caller) OfRegions() bool { return c.Admin && c.Regions != nil }

// MayUse tells whether the caller may use a region.
func (c *Caller) MayUse(region string) bool {
	return c.Regions == nil || slices.Contains(c.Regions, region)
}

// MayCallFrom tells whether the account may be used from an address.
func (c *Caller) MayCallFrom(ip netip.Addr) bool {
	return c.Allowed == nil || slices.ContainsFunc(c.Allowed, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Call is everything about one request besides its parameters.
type Call struct {
	Action    string
	RequestID string
	Caller    Caller
	// Company is the tenant acted on: the caller's own, or CompanyID for an administrator.
	// 0: an administrator who named none; lists then show all tenants, creates use Owner().
	Company int64
	Member  int64
	// Projects are the project groups in which the caller may do this action; nil: all.
	Projects []string
	Region   string
	ClientIP netip.Addr
	// Secure: the request came by TLS, or from this machine; secrets may be in it.
	Secure     bool
	AuthMethod string // header X-Auth-Method
	Language   string // "zh" or "en"
	Received   time.Time
	// Application is the approval request that the call belongs to; empty: none.
	Application string
	// Audited is set by whoever wrote the audit entry in the request's own transaction.
	Audited bool
	// Resources are added by the handler (AddResource) for the audit entry.
	Resources []string
	// SessionCookie, of a handler, is given to the browser with a successful answer: the token of a new session, or
	// an empty text to take the old one away.
	SessionCookie *string
}

// Owner is the tenant that owns what this call creates.
func (c *Call) Owner() int64 {
	if c.Company != 0 {
		return c.Company
	}
	return c.Caller.Company
}

// Scope is where the resources are that this call may know of.
func (c *Call) Scope() Scope {
	return Scope{Region: c.Region, Regions: c.Caller.Regions, Company: c.Company, Projects: c.Projects}
}

// OwnScope is Scope for what the call puts together: resources of the tenant that will own the result, also
// when an administrator named none.
func (c *Call) OwnScope() Scope {
	return Scope{Region: c.Region, Regions: c.Caller.Regions, Company: c.Owner(), Projects: c.Projects}
}

// Scope narrows what is looked up: a lookup that passes it is thereby authorized. Zero values do not
// narrow; the zero Scope is that of the controller's own work.
type Scope struct {
	Region   string
	Regions  []string
	Company  int64
	Projects []string
}

// Holds tells whether a resource is in the scope.
func (s Scope) Holds(region string, company int64, project string) bool {
	return (s.Region == "" || s.Region == region) && (s.Regions == nil || slices.Contains(s.Regions, region)) && (s.Company == 0 || s.Company == company) &&
		(s.Projects == nil || slices.Contains(s.Projects, project))
}

// AddResource names a resource for the audit entry.
func (c *Call) AddResource(ids ...string) { c.Resources = append(c.Resources, ids...) }

// CallFrom returns the call that ctx belongs to, or nil (background work).
func CallFrom(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

type callKey struct{}

// WithCall returns a context that belongs to c. The wire does this for every request; tests of
// products that call below the wire may do it themselves.
func WithCall(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// Credential is what a public key stands for.
type Credential struct {
	Caller
	PrivateKey string
	Disabled   bool  // 109
	Expires    int64 // unix microseconds, from when on it is refused (109); 0: never
}

// Authenticator is fulfilled by identity.
type Authenticator interface {
	// Key returns the credential of a public key; nil when unknown.
	Key(ctx context.Context, publicKey string) (*Credential, error)
}

// Gate is asked after authentication and before the handler; products fulfil parts of it.
type Gate interface {
	// Region refuses unknown (113), unlicensed or expired (400, 404) regions.
	Region(ctx context.Context, c *Call) error
	// Tenant refuses CompanyID of a tenant that does not exist.
	Tenant(ctx context.Context, company int64) error
}

// Auditor records a call that no transaction of its own recorded: refused mutating calls, and
// accepted ones without an operation.
type Auditor interface {
	Record(ctx context.Context, c *Call, spec Spec, err error)
}
