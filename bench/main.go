// Command bench measures the controller through its public API and prints one
// line a figure. docs/performance.md says what each figure is and how to read it.
//
//	go run ./bench [-json] [-only REGEXP] [-vms 100000]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// figure is one line of output.
type figure struct {
	Name     string  `json:"name"`
	Database string  `json:"database,omitempty"` // sqlite, postgres
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Target   string  `json:"target,omitempty"`
	Note     string  `json:"note,omitempty"`
}

// bench is one run's settings and output.
type bench struct {
	json   bool
	only   *regexp.Regexp
	vms    int
	server string // the lingyun binary
	dir    string
}

func (b *bench) print(f figure) {
	if b.json {
		out, err := json.Marshal(f)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(out))
		return
	}
	fmt.Printf("%-34s %-9s %12.4g %-9s %-14s %s\n", f.Name, f.Database, f.Value, f.Unit, f.Target, f.Note)
}

func main() {
	log.SetFlags(0)
	var b bench
	only := flag.String("only", "", "run the groups whose name matches: placement, money, sqlite, postgres, boot, disk, network, login")
	flag.BoolVar(&b.json, "json", false, "one JSON object a line")
	flag.IntVar(&b.vms, "vms", 100_000, "machines in the table that pages are read from")
	flag.StringVar(&b.server, "server", "bin/lingyun", "the binary to measure")
	flag.Parse()
	b.only = regexp.MustCompile(*only)
	var err error
	if b.dir, err = os.MkdirTemp("", "lingyun-bench-"); err != nil {
		log.Fatal(err)
	}
	err = b.run()
	if e := os.RemoveAll(b.dir); err == nil {
		err = e
	}
	if err != nil {
		log.Fatal(err)
	}
}

func (b *bench) run() error {
	b.print(figure{Name: "processors", Value: float64(runtime.NumCPU()), Unit: "cores"})
	groups := []struct {
		name string
		run  func() error
	}{
		{"placement", b.placement},
		{"money", b.money},
		{"sqlite", func() error { return b.engine("sqlite") }},
		{"postgres", func() error { return b.engine("postgres") }},
		{"boot", b.boot},
		{"disk", b.disk},
		{"network", b.network},
		{"login", b.login},
	}
	for _, g := range groups {
		if !b.only.MatchString(g.name) {
			continue
		}
		if err := g.run(); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// percentile of sorted durations, 0..1.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func sortDurations(d []time.Duration) []time.Duration {
	slices.Sort(d)
	return d
}
