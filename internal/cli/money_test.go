package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// TestMoney sells something by the command line: prices, sizes and quotas are set, money comes in, and what it went for
// is on the bill.
func TestMoney(t *testing.T) {
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir, Hosts: 1})
	m := open(t)
	m.must("login", "--file", filepath.Join(dir, "demo.json"))
	m.must("login", "--profile", "admin", "--file", filepath.Join(dir, "admin.json"))
	admin := func(args ...string) string { t.Helper(); return m.must(append(args, "--profile", "admin")...) }
	has := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
	}
	refused := func(code string, args ...string) {
		t.Helper()
		if _, _, err := m.run(args...); err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%v: %v, want %s", args, err, code)
		}
	}
	tenant := strconv.FormatInt(c.Demo.Company, 10)

	// Prices.
	admin("price", "set", "EIP", "Bgp", "Month", "20")
	admin("price", "discount", tenant, "EIP", "Bgp", "Month", "50")
	has(m.must("price", "list"), "EIP", "20", "50 %")
	admin("price", "withdraw", "EIP", "Bgp", "Year")
	has(m.must("price", "list"), "not for sale")
	refused("111", "price", "set", "EIP", "Bgp", "Month", "1")

	// Sizes.
	admin("spec", "add", "ComputeSetA", "10C20G")
	var specs []struct{ SpecificationID, Value string }
	if err := json.Unmarshal([]byte(admin("spec", "list", "-o", "json")), &specs); err != nil {
		t.Fatal(err)
	}
	made := ""
	for _, s := range specs {
		if s.Value == "10C20G" {
			made = s.SpecificationID
		}
	}
	admin("spec", "set", made, "12C20G")
	has(m.must("spec", "list"), "12C20G")
	admin("spec", "delete", made)
	refused("17002", "spec", "delete", made, "--profile", "admin")

	// Quotas.
	admin("quota", "set", tenant, "EIP", "FACTOR_AMOUNT", "1")
	eip := m.must("eip", "allocate", "--name", "shop", "--bandwidth", "1", "--charge", "Month", "-o", "json")
	var address struct{ EIPID string }
	if err := json.Unmarshal([]byte(eip), &address); err != nil || address.EIPID == "" {
		t.Fatalf("%s %v", eip, err)
	}
	refused("17005", "eip", "allocate")
	refused("17008", "quota", "set", tenant, "EIP", "FACTOR_AMOUNT", "0", "--profile", "admin")
	admin("quota", "reset", tenant, "EIP", "FACTOR_AMOUNT")
	has(admin("quota", "list", "--company", tenant), "EIP", "10")

	// Money in, and what it went for.
	admin("recharge", "add", tenant, "1000", "--serial", "B-17")
	refused("23002", "recharge", "add", tenant, "1000", "--serial", "B-17", "--profile", "admin")
	admin("recharge", "add", tenant, "200", "--gift")
	has(admin("recharge", "list"), "B-17", "1000", "200")
	has(m.must("balance"), tenant, "1000", "500190") // 500,000 and 200 of gifts, less half of 20 for the address
	has(m.must("balance", "moves"), "1000", "10")
	has(m.must("order", "list", "--resource", address.EIPID), address.EIPID, "shop", "Month")
	has(m.must("renew", address.EIPID, "--price"), "10")
	has(m.must("renew", address.EIPID), "trade")
	m.must("renew", "auto", "off", address.EIPID)
	if c.Demo.Must(t, "DescribeEIP", controllertest.P{"EIPIDs": []string{address.EIPID}}).Infos()[0].Int("ExpireTime") < int(c.Clock.Now().AddDate(0, 1, 20).Unix()) {
		t.Error("not renewed")
	}
	has(m.must("bill", "show", "--by", "charge"), "Month", "20")
	has(m.must("bill", "resources"), address.EIPID, "20")
	var file struct{ URL string }
	if err := json.Unmarshal([]byte(m.must("bill", "export", "--what", "Order", "--format", "csv", "-o", "json")), &file); err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(file.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r.Status, err)
	}
	has(string(text), address.EIPID, "CNY")
}

// TestPlatform changes the configuration and brings it back from a copy, and installs a licence.
func TestPlatform(t *testing.T) {
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir, Hosts: 1})
	m := open(t)
	m.must("login", "--file", filepath.Join(dir, "admin.json"))
	shows := func(want string, args ...string) {
		t.Helper()
		if out := m.must(args...); !strings.Contains(out, want) {
			t.Errorf("%v shows no %q:\n%s", args, want, out)
		}
	}
	m.must("config", "set", "Title", "My cloud")
	m.must("config", "set", "SnapshotsPerDisk", "5", "--here")
	m.must("config", "set", "MailPassword", "s3cret-of-mail")
	shows("My cloud", "config", "get", "Title")
	shows("My cloud", "config", "list")
	if n := c.Catalog.Config.SnapshotsPerDisk(t.Context(), "cn"); n != 5 || c.Catalog.Config.SnapshotsPerDisk(t.Context(), "") != 10 {
		t.Errorf("%d snapshots", n)
	}
	if _, _, err := m.run("config", "set", "SnapshotsPerDisk", "1000"); err == nil || !strings.Contains(err.Error(), "113") {
		t.Errorf("a value out of its range: %v", err)
	}
	text, err := c.Catalog.Config.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m.must("config", "reset", "Title")
	m.must("config", "reset", "SnapshotsPerDisk", "--here")
	shows("Lingyun", "config", "get", "Title")
	_, progress, err := m.run("config", "restore", file)
	if err != nil || !strings.Contains(progress, "MailPassword is a secret") {
		t.Fatalf("%q %v", progress, err)
	}
	shows("My cloud", "config", "get", "Title")
	if n := c.Catalog.Config.SnapshotsPerDisk(t.Context(), "cn"); n != 5 {
		t.Errorf("%d snapshots after the restore", n)
	}

	key, system, err := catalog.LicenceIssuer(t.Context(), c.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := catalog.SignLicence(catalog.Licence{ID: "licence-of-a-year", System: system, Regions: []string{"cn"}, Features: []string{"GPU"}, End: time.Now().AddDate(1, 0, 0).Unix()}, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err = json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.run("licence", "upload", file, "--code", "0000"); err == nil || !strings.Contains(err.Error(), "549") {
		t.Errorf("another code: %v", err)
	}
	m.must("licence", "upload", file, "--code", signed.AuthCode())
	shows("licence-of-a-year", "licence", "list")
	shows("GPU", "licence", "list")
}
