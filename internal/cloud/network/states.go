package network

import (
	"fmt"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// States of VPCs and subnets.
const (
	Allocating  = "Allocating"
	Available   = "Available"
	Deleting    = "Deleting"    // subnets
	Terminating = "Terminating" // VPCs, groups
	Terminated  = "Terminated"  // VPCs, kept as a tombstone; subnets are Deleted then
)

// States of EIPs.
const (
	Free              = "Free"
	Bounding          = "Bounding"
	Bound             = "Bound"
	Unbounding        = "Unbounding"
	BandwidthChanging = "BandwidthChanging"
	Deleted           = "Deleted"   // in the recycle bin
	Releasing         = "Releasing" // being destroyed
	Released          = "Released"  // destroyed, kept as a tombstone
)

// States of security groups, besides Available and Deleted.
const (
	Creating = "Creating"
	Updating = "Updating" // new rules on their way to the hosts
)

var eipStates = []string{Allocating, Free, Bounding, Bound, Unbounding, BandwidthChanging, Deleted, Releasing, Released}

// Actions on an EIP. Bind and Unbind are judged twice: with the resource it is bound to (or on its
// way to or from), and with another one.
const (
	verbBind        = "Bind"
	verbBindOther   = "Bind another"
	verbUnbind      = "Unbind"
	verbUnbindOther = "Unbind another"
	verbRelease     = "Release"
	verbRollback    = "Rollback"
	verbTerminate   = "Terminate"
	verbBandwidth   = "Bandwidth"
	verbEgress      = "Default egress"
)

var eipVerbs = []string{verbBind, verbBindOther, verbUnbind, verbUnbindOther, verbRelease, verbRollback, verbTerminate, verbBandwidth, verbEgress}

// Verdicts besides the status codes.
const (
	proceed retcode.Code = -1         // the action goes ahead
	repeat  retcode.Code = retcode.OK // already so, or under way: answered 0, nothing is done again
)

const (
	state   = retcode.InvalidResourceState
	binned  = retcode.ResourceDeleted
	gone    = retcode.ResourceTerminated
	bound   = retcode.EIPStillBound
	present = retcode.ResourceAlreadyEnabled
	outside = retcode.InvalidResourceBizState
)

// eipVerdict says what an action meets in a state. Columns are in the order of eipVerbs.
var eipVerdict = map[string][9]retcode.Code{
	//                 Bind     another  Unbind   another  Release  Rollback Terminate Bandwidth Egress
	Allocating:        {state, state, state, state, state, present, outside, state, state},
	Free:              {proceed, proceed, state, state, proceed, present, outside, proceed, state},
	Bounding:          {repeat, state, state, state, state, present, outside, state, state},
	Bound:             {repeat, state, proceed, state, bound, present, bound, proceed, proceed},
	Unbounding:        {state, state, repeat, state, state, present, outside, state, state},
	BandwidthChanging: {state, state, state, state, state, present, outside, repeat, state},
	Deleted:           {binned, binned, binned, binned, binned, proceed, proceed, binned, binned},
	Releasing:         {binned, binned, binned, binned, binned, state, repeat, binned, binned},
	Released:          {gone, gone, gone, gone, gone, gone, gone, gone, gone},
}

// judge looks the verdict up.
func judge(eipState, verb string) retcode.Code {
	for i, v := range eipVerbs {
		if row, ok := eipVerdict[eipState]; ok && v == verb {
			return row[i]
		}
	}
	return retcode.ServiceError
}

// errRepeat: already so, or the same action is under way; the call is answered 0.
var errRepeat = fmt.Errorf("network: the same action is under way")

// check turns the verdict into an error: nil, errRepeat or the state's code.
func (e *EIP) check(verb string) error {
	switch code := judge(e.State, verb); code {
	case proceed:
		return nil
	case repeat:
		return errRepeat
	case gone:
		return code.Errorf("%s is destroyed", e.ID)
	case bound:
		return code.Errorf("%s is bound to %s", e.ID, e.BindID)
	default:
		return code.Errorf("%s is %s, which does not allow %s", e.ID, e.State, verb)
	}
}

// toward picks the verb by whether the EIP is bound to the resource (or on its way to or from it).
func (e *EIP) toward(id, same, other string) string {
	if e.BindID == "" || e.BindID == id {
		return same
	}
	return other
}

// StatesTable is the table of EIP states and actions in Markdown, for the documentation.
func StatesTable() string {
	var b strings.Builder
	b.WriteString("| State | " + strings.Join(eipVerbs, " | ") + " |\n|---" + strings.Repeat("|---", len(eipVerbs)) + "|\n")
	for _, s := range eipStates {
		b.WriteString("| `" + s + "` |")
		for _, v := range eipVerbs {
			switch code := judge(s, v); code {
			case proceed:
				b.WriteString(" yes |")
			case repeat:
				b.WriteString(" 0 |")
			default:
				fmt.Fprintf(&b, " %d |", code)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
