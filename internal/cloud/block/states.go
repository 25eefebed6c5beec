package block

import (
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Roles of a disk.
const (
	Boot = "Boot"
	Data = "Data"
)

// States of a disk. A transient one belongs to an operation under way and ends with it.
const (
	Creating     = "Creating"
	Unbound      = "Unbound"
	Bounding     = "Bounding"
	Bound        = "Bound"
	Unbounding   = "Unbounding"
	Upgrading    = "Upgrading"
	BeingCloned  = "BeingCloned"
	Snapshoting  = "Snapshoting"
	Rollbacking  = "Rollbacking"
	Deleting     = "Deleting"     // on its way to the recycle bin
	Deleted      = "Deleted"      // in the recycle bin
	Releasing    = "Releasing"    // being destroyed
	Unterminated = "Unterminated" // destroying it failed half way: it can only be destroyed again; the bin shows Failed
	Released     = "Released"     // destroyed, kept as a tombstone
	Failed       = "Failed"       // its creation failed; it holds nothing
)

// Actions on a disk. Attach and detach are judged twice: with the machine it is attached to (or on its way to or
// from), and with another one. A disk that machines share is Unbound to every machine that it is not attached to.
const (
	verbAttach      = "Attach"
	verbAttachOther = "Attach another"
	verbDetach      = "Detach"
	verbDetachOther = "Detach another"
	verbUpgrade     = "Upgrade"
	verbClone       = "Clone"
	verbSnapshot    = "Snapshot"
	verbRollback    = "Roll back"
	verbLimit       = "Limit"
	verbDelete      = "Delete"
	verbRestore     = "Restore"
	verbTerminate   = "Terminate"
)

// Verdicts.
const (
	proceed = lifecycle.Proceed
	repeat  = lifecycle.Repeat
	busy    = retcode.DiskStateUnstable
	wrong   = retcode.InvalidResourceState
	binned  = retcode.DiskInRecycleBin
	gone    = retcode.ResourceTerminated
	present = retcode.ResourceAlreadyEnabled  // not in the bin: nothing to restore
	outside = retcode.InvalidResourceBizState // not in the bin: nothing to destroy
)

// life says what an action meets in a state of a disk.
var life = lifecycle.Table{
	States: []string{Creating, Unbound, Bounding, Bound, Unbounding, Upgrading, BeingCloned, Snapshoting, Rollbacking,
		Deleting, Deleted, Releasing, Unterminated, Released, Failed},
	Verbs: []string{verbAttach, verbAttachOther, verbDetach, verbDetachOther, verbUpgrade, verbClone, verbSnapshot, verbRollback, verbLimit,
		verbDelete, verbRestore, verbTerminate},
	Verdicts: map[string][]retcode.Code{
		//            Attach   another  Detach   another  Upgrade  Clone    Snapshot Rollback Limit    Delete   Restore  Terminate
		Creating:     {busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, present, outside},
		Unbound:      {proceed, proceed, wrong, wrong, proceed, proceed, proceed, proceed, proceed, proceed, present, outside},
		Bounding:     {repeat, busy, busy, busy, busy, busy, busy, busy, busy, busy, present, outside},
		Bound:        {repeat, wrong, proceed, wrong, proceed, wrong, proceed, proceed, proceed, wrong, present, outside},
		Unbounding:   {busy, busy, repeat, busy, busy, busy, busy, busy, busy, busy, present, outside},
		Upgrading:    {busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, present, outside},
		BeingCloned:  {busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, present, outside},
		Snapshoting:  {busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, present, outside},
		Rollbacking:  {busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, present, outside},
		Deleting:     {binned, binned, binned, binned, binned, binned, binned, binned, binned, repeat, wrong, wrong},
		Deleted:      {binned, binned, binned, binned, binned, binned, binned, binned, binned, binned, proceed, proceed},
		Releasing:    {binned, binned, binned, binned, binned, binned, binned, binned, binned, binned, wrong, repeat},
		Unterminated: {binned, binned, binned, binned, binned, binned, binned, binned, binned, binned, wrong, proceed},
		Released:     {gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone},
		Failed:       {busy, busy, busy, busy, busy, busy, busy, busy, busy, proceed, gone, gone},
	},
}

// check tells whether an action may be done with a disk: nil, lifecycle.ErrRepeat or the state's code.
func check(d *Disk, verb string) error { return life.Check(d.ID, d.State, verb) }

// States of a snapshot, as clients know them, and two of ours.
const (
	SnapshotCreating = "Createing" // spelled so
	SnapshotNormal   = "Normal"
	SnapshotRolling  = "RollBacking"
	SnapshotDeleting = "Deleting"
	SnapshotFailed   = "Failure" // it could not be made, or not be removed: it can only be deleted
	SnapshotReleased = "Released"
)
