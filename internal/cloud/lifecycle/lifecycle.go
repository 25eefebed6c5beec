// Package lifecycle judges what may be done with a resource by the state that it is in. Each product has its tables;
// the documentation shows them.
package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Verdicts besides the status codes.
const (
	Proceed retcode.Code = -1         // the action goes ahead
	Repeat  retcode.Code = retcode.OK // already so, or under way: answered 0, nothing is done again
)

// ErrRepeat stands for Repeat: the call is answered 0.
var ErrRepeat = errors.New("lifecycle: already so, or the same action is under way")

// Table says what each action meets in each state of a kind of resource.
type Table struct {
	States   []string
	Verbs    []string                  // the actions
	Verdicts map[string][]retcode.Code // of each state, in the order of Verbs
}

// Judge looks a verdict up. An unknown state or action is a fault of ours: 2.
func (t Table) Judge(state, verb string) retcode.Code {
	row, i := t.Verdicts[state], slices.Index(t.Verbs, verb)
	if i < 0 || i >= len(row) {
		return retcode.ServiceError
	}
	return row[i]
}

// Check turns the verdict on a resource into an error: nil, ErrRepeat or its code.
func (t Table) Check(id, state, verb string) error {
	switch code := t.Judge(state, verb); code {
	case Proceed:
		return nil
	case Repeat:
		return ErrRepeat
	case retcode.ResourceTerminated:
		return code.Errorf("%s is destroyed", id)
	default:
		return code.Errorf("%s is %s, which does not allow %s", id, state, verb)
	}
}

// Markdown is the table for the documentation.
func (t Table) Markdown() string {
	var b strings.Builder
	b.WriteString("| State | " + strings.Join(t.Verbs, " | ") + " |\n|---" + strings.Repeat("|---", len(t.Verbs)) + "|\n")
	for _, s := range t.States {
		b.WriteString("| `" + s + "` |")
		for _, v := range t.Verbs {
			switch code := t.Judge(s, v); code {
			case Proceed:
				b.WriteString(" yes |")
			case Repeat:
				b.WriteString(" 0 |")
			default:
				fmt.Fprintf(&b, " %d |", code)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
