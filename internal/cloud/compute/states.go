package compute

import (
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// States of a virtual machine. A transient one belongs to an operation under way and ends with it.
const (
	Initializing  = "Initializing" // its volumes and network are prepared
	Starting      = "Starting"
	Running       = "Running"
	Stopping      = "Stopping" // the guest was asked to shut down
	Stopped       = "Stopped"  // holds no CPU and memory of a host
	Restarting    = "Restarting"
	Poweroffing   = "Poweroffing"
	Resizing      = "Resizing"      // gets other CPUs and memory, on or off
	WaitReinstall = "WaitReinstall" // its host fetches the image; the old system is still there
	Reinstalling  = "Reinstalling"  // its system disk is made anew
	Imaging       = "Imaging"       // an image is made of its system disk
	Readdressing  = "Readdressing"  // its network learns of another inner address
	Deleting      = "Deleting"      // on its way to the recycle bin
	Deleted       = "Deleted"       // in the recycle bin
	Terminating   = "Terminating"   // being destroyed
	Unterminated  = "Unterminated"  // destroying it failed half way: it can only be destroyed again; the bin shows Failed
	Terminated    = "Terminated"    // destroyed, kept as a tombstone
	Failed        = "Failed"        // its creation failed; it holds nothing
)

// Verbs are what the API asks of a virtual machine.
const (
	Start     = "Start"
	Stop      = "Stop"
	Restart   = "Restart"
	Poweroff  = "Poweroff"
	Delete    = "Delete"
	Bind      = "Bind" // of public addresses and the like
	Resize    = "Resize"
	Reinstall = "Reinstall"
	MakeImage = "MakeImage"
	Use       = "Use"     // consoles, and what is done inside the guest
	Change    = "Change"  // settings that hold from the next start at the latest
	Rebuild   = "Rebuild" // settings that a machine must be off for
	Rollback  = "Rollback"
	Terminate = "Terminate"
)

// Verdicts.
const (
	proceed = lifecycle.Proceed
	repeat  = lifecycle.Repeat
	state   = retcode.InvalidVMState
	biz     = retcode.InvalidVMBizState
	gone    = retcode.ResourceTerminated
	here    = retcode.ResourceAlreadyEnabled  // not in the bin: nothing to restore
	outside = retcode.InvalidResourceBizState // not in the bin: nothing to destroy
	busy    = retcode.InvalidResourceState
	notOff  = retcode.VMNotStopped
	imaging = retcode.VMMakingImage
)

// life says what an action meets in a state of a machine.
var life = lifecycle.Table{
	States: []string{Initializing, Starting, Running, Stopping, Stopped, Restarting, Poweroffing, Resizing, WaitReinstall, Reinstalling, Imaging, Readdressing,
		Deleting, Deleted, Terminating, Unterminated, Terminated, Failed},
	Verbs: []string{Start, Stop, Restart, Poweroff, Delete, Bind, Resize, Reinstall, MakeImage, Use, Change, Rebuild, Rollback, Terminate},
	Verdicts: map[string][]retcode.Code{
		//             Start    Stop     Restart  Poweroff Delete   Bind     Resize   Reinst.  MakeIm.  Use      Change   Rebuild  Rollback Terminate
		Initializing:  {state, state, state, state, state, state, state, state, state, state, state, state, here, outside},
		Starting:      {repeat, state, state, proceed, state, state, state, state, state, state, state, state, here, outside},
		Running:       {state, proceed, proceed, proceed, proceed, proceed, proceed, notOff, notOff, proceed, proceed, notOff, here, outside},
		Stopping:      {state, repeat, state, proceed, state, state, state, state, state, state, state, state, here, outside},
		Stopped:       {proceed, state, state, state, proceed, proceed, proceed, proceed, proceed, state, proceed, proceed, here, outside},
		Restarting:    {state, state, repeat, proceed, state, state, state, state, state, state, state, state, here, outside},
		Poweroffing:   {state, state, state, repeat, state, state, state, state, state, state, state, state, here, outside},
		Resizing:      {state, state, state, state, state, state, repeat, state, state, state, state, state, here, outside},
		WaitReinstall: {state, state, state, state, state, state, state, repeat, state, state, state, state, here, outside},
		Reinstalling:  {state, state, state, state, state, state, state, repeat, state, state, state, state, here, outside},
		Imaging:       {imaging, imaging, imaging, imaging, imaging, imaging, imaging, imaging, imaging, imaging, imaging, imaging, here, outside},
		Readdressing:  {state, state, state, state, state, state, state, state, state, state, state, state, here, outside},
		Deleting:      {biz, biz, biz, biz, repeat, biz, biz, biz, biz, biz, biz, biz, busy, busy},
		Deleted:       {biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, proceed, proceed},
		Terminating:   {biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, busy, repeat},
		Unterminated:  {biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, biz, busy, proceed},
		Terminated:    {gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone},
		Failed:        {state, state, state, state, proceed, state, state, state, state, state, state, state, here, outside},
	},
}

// check tells whether an action may be done with a machine: nil, lifecycle.ErrRepeat or the state's code.
func check(v *VM, verb string) error { return life.Check(v.ID, v.State, verb) }
