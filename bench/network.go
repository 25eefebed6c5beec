package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
)

// network runs the measurement of transfers, which lives beside the datapath's tests because it needs their two
// chassis, and prints what a transfer through our rows keeps of one through bare OVN in the same run.
func (b *bench) network() error {
	if os.Geteuid() != 0 {
		log.Print("network: left out, it needs root (namespaces)")
		return nil
	}
	cmd := exec.Command("go", "test", "./internal/fabric", "-run", "^TestTransfers$", "-count=1", "-v", "-timeout=15m")
	cmd.Env = append(os.Environ(), "LINGYUN_BENCH=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		text, ok := strings.CutPrefix(s.Text(), "figure ")
		if !ok {
			continue
		}
		var f struct {
			Name       string
			Bare, Ours float64
		}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			return err
		}
		b.print(figure{Name: f.Name, Value: f.Ours / f.Bare, Unit: "of bare", Note: fmt.Sprintf("%.0f of %.0f Mbit/s, medians of 5 in turns", f.Ours, f.Bare)})
	}
	return nil
}
