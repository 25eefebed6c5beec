package controller_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// walking is the newest migration of the first release; testdata/walking.sql is what that release wrote: two tenants, a
// machine that runs with a disk and an address, one that is stopped, one in the recycle bin, a free address.
const walking = 30

// TestOldDatabases brings a database of the first release up to date, with what is in it.
func TestOldDatabases(t *testing.T) {
	for engine, empty := range map[string]func(*testing.T) (database.Options, *sql.DB, goose.Dialect){
		"sqlite": func(t *testing.T) (database.Options, *sql.DB, goose.Dialect) {
			o := database.Options{Dir: t.TempDir(), NoSync: true}
			db, err := sql.Open("sqlite", filepath.Join(o.Dir, database.FileName))
			if err != nil {
				t.Fatal(err)
			}
			return o, db, goose.DialectSQLite3
		},
		"postgres": func(t *testing.T) (database.Options, *sql.DB, goose.Dialect) {
			o := dbtest.PostgresOptions(t)
			db, err := sql.Open("pgx", o.URL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
				t.Fatal(err)
			}
			return o, db, goose.DialectPostgres
		},
	} {
		t.Run(engine, func(t *testing.T) {
			o, db, dialect := empty(t)
			p, err := goose.NewProvider(dialect, db, os.DirFS("../database/migrations"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.UpTo(t.Context(), walking); err != nil {
				t.Fatal(err)
			}
			rows, err := os.ReadFile("testdata/walking.sql")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(string(rows)); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}

			now := dbtest.Open(t, o)
			if found, err := controller.Doctor(t.Context(), now); err != nil || len(found) > 0 {
				t.Errorf("%v\n%s", err, strings.Join(found, "\n"))
			}
			password, err := identity.New(identity.Deps{DB: now, Clock: clock.New()}).Recover(context.Background(), identity.Recovery{Email: "demo@lingyun.local"})
			if err != nil {
				t.Fatal(err)
			}

			// Its tenant finds everything, and can go on.
			dir := t.TempDir()
			for _, name := range []string{"admin.json", "demo.json"} { // the credentials were written when it was young
				if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := controllertest.Start(t, controllertest.Options{DB: now, Dir: dir, Hosts: 2})
			door := c.Anybody()
			door.Header = controllertest.Plain
			door.Must(t, "ChangePassword", P{"Email": "demo@lingyun.local", "OldPassword": password, "NewPassword": "Fresh-1234"})
			demo := c.Session(t, "demo@lingyun.local", "Fresh-1234")
			for list, want := range map[string]int{"DescribeVMInstance": 2, "DescribeEIP": 2, "DescribeVPC": 1, "DescribeSecurityGroup": 1, "DescribeRecycledResource": 1, "ListProjects": 1} {
				if got := len(demo.Must(t, list, nil).Infos()); got != want {
					t.Errorf("%s lists %d, want %d", list, got, want)
				}
			}
			if d := demo.Must(t, "DescribeDisk", P{"DiskType": "Data"}).Infos(); len(d) != 1 || d[0].Int("Size") != 20 && d[0].Int("DiskSpace") != 20 {
				t.Errorf("data disks: %v", d)
			}
			eip := demo.Must(t, "AllocateEIP", P{"Name": "new", "ChargeType": "Month", "Bandwidth": 1, "OperatorName": "Bgp"}).String("EIPID")
			demo.OPLog(t, "AllocateEIP", eip)
			if found, err := controller.Doctor(t.Context(), now); err != nil || len(found) > 0 {
				t.Errorf("%v\n%s", err, strings.Join(found, "\n"))
			}
		})
	}
}
