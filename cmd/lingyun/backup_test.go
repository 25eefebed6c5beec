package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// TestBackupAndRestore copies a running cloud's database, loses something, and gets it back.
func TestBackupAndRestore(t *testing.T) {
	for engine, options := range map[string]func(testing.TB) database.Options{"sqlite": dbtest.SQLiteOptions, "postgres": dbtest.PostgresOptions} {
		t.Run(engine, func(t *testing.T) {
			o := options(t)
			if o.Dir == "" {
				o.Dir = t.TempDir()
			}
			run := func(cmd *cobra.Command, args ...string) (string, error) {
				var out bytes.Buffer
				cmd.SetOut(&out)
				cmd.SilenceUsage, cmd.SilenceErrors = true, true
				cmd.SetArgs(append(args, "--data", o.Dir, "--database", o.URL))
				err := cmd.ExecuteContext(t.Context())
				return strings.TrimSpace(out.String()), err
			}
			// start runs the cloud until the returned function is called.
			start := func() (*controllertest.Cloud, func()) {
				db, err := database.Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				c := controllertest.Start(t, controllertest.Options{DB: db, Dir: o.Dir, Hosts: 1})
				return c, func() {
					c.Stop(t)
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			c, stop := start()
			eip := c.Demo.Must(t, "AllocateEIP", controllertest.P{"Name": "kept", "ChargeType": "Month", "Bandwidth": 1, "OperatorName": "Bgp"}).String("EIPID")
			c.Demo.OPLog(t, "AllocateEIP", eip)
			vpc := c.Demo.Must(t, "DescribeVPC", nil).Infos()[0]
			vm := c.Demo.Must(t, "CreateVMInstance", controllertest.P{"Name": "m", "CPU": 1, "Memory": 1024, "VMType": "ComputeSetA", "BootDiskSetType": "StorageSetA",
				"DataDiskSetType": "StorageSetA", "ChargeType": "Month", "Password": "Secret-123", "VPCID": vpc.String("VPCID"), "SubnetID": vpc.List("SubnetInfos")[0].String("SubnetID"),
				"ImageID": c.Demo.Must(t, "DescribeImage", nil).Infos()[0].String("ImageID"), "WANSGID": c.Demo.Must(t, "DescribeSecurityGroup", nil).Infos()[0].String("SGID")}).String("VMID")
			c.Demo.OPLog(t, "CreateVMInstance", vm)
			file, err := run(backupCommand())
			if err != nil {
				t.Fatal(err)
			}
			if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
				t.Fatalf("%v %v", i, err)
			}
			c.Demo.Must(t, "ReleaseEIP", controllertest.P{"EIPID": eip})
			c.Demo.OPLog(t, "ReleaseEIP", eip)
			for _, a := range []string{"StopVMInstance", "StartVMInstance"} { // its host sees more than the backup knows
				c.Demo.Must(t, a, controllertest.P{"VMID": vm})
				c.Demo.OPLog(t, a, vm)
			}
			listed := func() int {
				return len(c.Demo.Must(t, "DescribeEIP", controllertest.P{"EIPIDs": []string{eip}}).Infos())
			}
			if n := listed(); n != 0 {
				t.Fatalf("%d after the deletion", n)
			}
			if _, err := run(restoreCommand(), file); err == nil || !strings.Contains(err.Error(), "stop the controller") {
				t.Fatalf("restored under a running controller: %v", err)
			}
			stop()

			// What is no backup for this place changes nothing.
			bad := filepath.Join(t.TempDir(), "x"+filepath.Ext(file))
			note, err := os.ReadFile(file + ".json")
			if err != nil {
				t.Fatal(err)
			}
			for name, write := range map[string][2][]byte{
				"damaged":         {[]byte("no database"), note},
				"of another key":  {[]byte("no database"), bytes.Replace(note, []byte(`"KeyFingerprint":"`), []byte(`"KeyFingerprint":"0`), 1)},
				"of a newer time": {[]byte("no database"), bytes.Replace(note, []byte(`"Schema":`), []byte(`"Schema":9`), 1)},
			} {
				if os.WriteFile(bad, write[0], 0o600) != nil || os.WriteFile(bad+".json", write[1], 0o600) != nil {
					t.Fatal("no room")
				}
				if _, err := run(restoreCommand(), bad); err == nil {
					t.Errorf("%s: restored", name)
				}
			}
			c, stop = start()
			if n := listed(); n != 0 {
				t.Errorf("%d after refused restores", n)
			}
			stop()

			out, err := run(restoreCommand(), file)
			if err != nil {
				t.Fatal(err)
			}
			_, saved, ok := strings.Cut(out, "saved in ")
			if _, err := os.Stat(saved); !ok || err != nil {
				t.Errorf("what was there is not saved: %q", out)
			}
			c, stop = start()
			if n := listed(); n != 1 {
				t.Errorf("%d after the restore", n)
			}
			// It is a whole cloud that goes on.
			c.Demo.Must(t, "ReleaseEIP", controllertest.P{"EIPID": eip})
			c.Demo.OPLog(t, "ReleaseEIP", eip)
			c.Demo.Must(t, "StopVMInstance", controllertest.P{"VMID": vm})
			if e := c.Demo.OPLog(t, "StopVMInstance", vm); e.Int("RetCode") != 0 {
				t.Errorf("its host refuses the restored machine: %v", e)
			}
			stop()
		})
	}
}
