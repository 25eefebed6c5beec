package backup_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

type P = controllertest.P

// TestBackupsAreMadeAndKept lives through some days of a cloud: copies come at their time, and go when they are old.
func TestBackupsAreMadeAndKept(t *testing.T) {
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir, Hosts: 1})
	there := func(pattern string) (names []string) {
		names, err := filepath.Glob(filepath.Join(dir, "backup", pattern))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	after := func(d time.Duration, pattern string, want int) []string {
		t.Helper()
		c.Clock.Advance(d)
		controllertest.Eventually(t, 30*time.Second, "backups "+pattern, func() bool { return len(there(pattern)) == want })
		return there(pattern)
	}
	set := func(key, value string) { c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": key, "ConfigValue": value}) }
	set("ConfigBackup", "00:00")
	set("SnapshotsPerDisk", "7")
	set("MailPassword", "s3cret-of-mail")
	first := after(time.Hour, "platform-*.db", 1)
	after(time.Hour, "platform-*.db", 2)

	// The copy is a database of this installation.
	copied := t.TempDir()
	text, err := os.ReadFile(first[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, database.FileName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := database.OpenReadOnly(t.Context(), database.Options{Dir: copied})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var tenants int
	if err := db.Reader().NewRaw("SELECT COUNT(*) FROM tenant").Scan(t.Context(), &tenants); err != nil || tenants < 2 {
		t.Errorf("%d tenants, %v", tenants, err)
	}

	// The configuration, once a day, has what was set, and no secret that could be read.
	day := after(24*time.Hour, "config-*.json", 1)
	text, err = os.ReadFile(day[0])
	var file catalog.ConfigFile
	if err != nil || json.Unmarshal(text, &file) != nil || file.System != c.Catalog.Config.SystemID(t.Context()) || len(file.Items) != 3 {
		t.Fatalf("%s %v", text, err)
	}
	for _, i := range file.Items {
		if sealed := i.ConfigKey == "MailPassword"; i.Sealed != sealed || i.ConfigKey == "SnapshotsPerDisk" && i.ConfigValue != "7" || i.ConfigValue == "s3cret-of-mail" {
			t.Errorf("%+v", i)
		}
	}

	// Daily from now on; after a day without a newer one the copies of the first hours are gone.
	set("DatabaseBackup", "Daily")
	set("DatabaseBackupRetention", "1")
	controllertest.Eventually(t, 30*time.Second, "a copy in the new period", func() bool { c.Clock.Advance(24 * time.Hour); return len(there("platform-*.db")) == 1 })
	if len(there("*.db.json")) != 1 {
		t.Errorf("notes: %v", there("*"))
	}
	// Off: the last one stays, however old.
	set("DatabaseBackup", "Off")
	last := after(90*24*time.Hour, "platform-*.db", 1)
	after(time.Hour, "config-*.json", 1)
	if now := there("platform-*.db"); len(now) != 1 || now[0] != last[0] {
		t.Errorf("%v, then %v", last, now)
	}
	// What a crash left in the middle of a copy goes, too.
	if err := os.WriteFile(filepath.Join(dir, "backup", "platform-20200101T000000Z.db.part"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	after(time.Hour, "*.part", 0)
}
