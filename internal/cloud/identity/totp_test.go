package identity

import (
	"encoding/base32"
	"testing"
	"time"
)

// TestStepOf holds the codes against the vectors of RFC 6238, appendix B (SHA-1; we take their last six digits).
func TestStepOf(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for unix, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		step, ok := stepOf(secret, code, time.Unix(unix, 0))
		if !ok || step != unix/30 {
			t.Errorf("at %d the code %s is of step %d, %v", unix, code, step, ok)
		}
		// A clock may be one step off, not two.
		for _, off := range []int64{-30, 30} {
			if step, ok := stepOf(secret, code, time.Unix(unix+off, 0)); !ok || step != unix/30 {
				t.Errorf("%d seconds off, the code %s is of step %d, %v", off, code, step, ok)
			}
		}
		for _, off := range []int64{-60, 60} {
			if _, ok := stepOf(secret, code, time.Unix(unix+off, 0)); ok && unix+off > 0 {
				t.Errorf("%d seconds off, the code %s is taken", off, code)
			}
		}
	}
}
