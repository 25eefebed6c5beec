package network

import (
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
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

// Verdicts.
const (
	proceed = lifecycle.Proceed
	repeat  = lifecycle.Repeat
	state   = retcode.InvalidResourceState
	binned  = retcode.ResourceDeleted
	gone    = retcode.ResourceTerminated
	bound   = retcode.EIPStillBound
	present = retcode.ResourceAlreadyEnabled
	outside = retcode.InvalidResourceBizState
)

// eipLife says what an action meets in a state of an EIP.
var eipLife = lifecycle.Table{
	States: []string{Allocating, Free, Bounding, Bound, Unbounding, BandwidthChanging, Deleted, Releasing, Released},
	Verbs:  []string{verbBind, verbBindOther, verbUnbind, verbUnbindOther, verbRelease, verbRollback, verbTerminate, verbBandwidth, verbEgress},
	Verdicts: map[string][]retcode.Code{
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
	},
}

// check tells whether an action may be done with an EIP: nil, lifecycle.ErrRepeat or the state's code.
func (e *EIP) check(verb string) error {
	if eipLife.Judge(e.State, verb) == bound {
		return bound.Errorf("%s is bound to %s", e.ID, e.BindID)
	}
	return eipLife.Check(e.ID, e.State, verb)
}

// toward picks the verb by whether the EIP is bound to the resource (or on its way to or from it).
func (e *EIP) toward(id, same, other string) string {
	if e.BindID == "" || e.BindID == id {
		return same
	}
	return other
}
