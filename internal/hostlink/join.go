package hostlink

// JoinPath is where a controller takes new hosts in: POST, JSON, JoinRequest in, JoinResponse out.
// A refusal is an HTTP status of 400 and above with JoinRefusal.
const JoinPath = "/join"

// JoinRequest is what a new host says of itself.
type JoinRequest struct {
	Token   string // as the operator got it; pki.ParseToken
	Name    string // host name
	Address string // host:port where the controller reaches the agent
	CSR     string // PEM; only its key counts
}

// JoinResponse makes the host one of the cloud's.
type JoinResponse struct {
	HostID      string
	Certificate string // PEM, followed by the authority's
	CA          string // PEM
	Region      string
	ComputeSet  string
	OVN         JoinOVN
}

// JoinOVN says where OVN is.
type JoinOVN struct {
	Southbound string // as ovn-remote: ssl:ADDRESS:6642, unix:PATH
}

// JoinRefusal says why a host may not join.
type JoinRefusal struct{ Message string }
