// Package controllertest runs a whole controller in the test's process: its real
// database, workflows and API, against simulated hosts without delays. Tests call
// it as a client would, over HTTP with signatures.
package controllertest

import (
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Options of a cloud under test. Zero values: 3 hosts of 64 CPUs, 256 GiB and 4,000 GB, on SQLite.
type Options struct {
	Hosts     int
	CPUs      int
	MemoryMiB int
	DiskGB    int
	DB        *database.DB // of dbtest; nil: a new SQLite
}

// Cloud is a controller under test. It ends with the test.
type Cloud struct {
	URL   string // of the endpoint
	Admin *Client
	Demo  *Client
}

// Client calls the endpoint with the keys of one account.
type Client struct {
	Company    int64
	Email      string
	PublicKey  string
	PrivateKey string
}

// P are the parameters of a call, by name as on the wire ("VMIDs.0"). Values: string, int, bool, float64,
// []string and []int (sent as Name.0, Name.1, ...). Region is cn unless given; "" leaves it out.
type P map[string]any

// Response is an answer.
type Response struct {
	Code    retcode.Code
	Message string
	Body    map[string]any // every top-level field
}

// Start runs a cloud.
func Start(t testing.TB, o Options) *Cloud { panic("not yet") }

// NewTenant creates a tenant with a main account and returns its client.
func (c *Cloud) NewTenant(t testing.TB) *Client { panic("not yet") }

// Call sends one request and returns its answer, whatever its code. It records the code as proven.
func (c *Client) Call(t testing.TB, action string, p P) Response { panic("not yet") }

// Must is Call that fails the test unless the code is 0.
func (c *Client) Must(t testing.TB, action string, p P) Response { panic("not yet") }

// Refuse is Call that fails the test unless the code is the wanted one.
func (c *Client) Refuse(t testing.TB, code retcode.Code, action string, p P) Response {
	panic("not yet")
}

// String returns a field of the answer; Int, Infos and First alike. They fail soft: zero when absent.
func (r Response) String(field string) string { panic("not yet") }

// Int returns a number of the answer.
func (r Response) Int(field string) int { panic("not yet") }

// Infos returns the rows of a list.
func (r Response) Infos() []map[string]any { panic("not yet") }

// Eventually calls ok until it holds, and fails the test with what() after the deadline.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	panic("not yet")
}
