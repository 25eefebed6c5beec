package block

import (
	"testing"
	"time"
)

// ReleaseWithin gives the guests of clouds that a test starts from here on less time to let go of a disk.
func ReleaseWithin(t *testing.T, d time.Duration) {
	old := releaseTime
	releaseTime = d
	t.Cleanup(func() { releaseTime = old })
}
