package block

// Roles of a disk.
const (
	Boot = "Boot"
	Data = "Data"
)

// States of a disk.
const (
	Creating     = "Creating"
	Unbound      = "Unbound"
	Bound        = "Bound"
	Deleted      = "Deleted"      // in the recycle bin
	Releasing    = "Releasing"    // being destroyed
	Unterminated = "Unterminated" // destroying it failed half way: it can only be destroyed again; the bin shows Failed
	Released     = "Released"     // destroyed, kept as a tombstone
	Failed       = "Failed"       // its creation failed; it holds nothing
)
