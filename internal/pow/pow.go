// Package pow is the proof of work that guards logins: a text whose hash begins with enough zero bits. Servers check
// it with one hash, clients find it with many.
package pow

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/bits"
)

// Zeros are the zero bits that the SHA-256 of a proof begins with.
func Zeros(proof string) int {
	sum := sha256.Sum256([]byte(proof))
	n := 0
	for _, b := range sum {
		if b != 0 {
			return n + bits.LeadingZeros8(b)
		}
		n += 8
	}
	return n
}

// Solve finds the proof of a challenge: CHALLENGE.TEXT with at least so many zeros.
func Solve(ctx context.Context, challenge string, difficulty int) (string, error) {
	for i := 0; ; i++ {
		if proof := fmt.Sprintf("%s.%x", challenge, i); Zeros(proof) >= difficulty {
			return proof, nil
		}
		if i%4096 == 0 && ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
}
