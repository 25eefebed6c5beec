package catalog_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestConfigurationPage(t *testing.T) {
	const path = "../../../docs/configuration.md"
	if os.Getenv("LINGYUN_WRITE") != "" {
		if err := os.WriteFile(path, []byte(catalog.ConfigurationPage()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != catalog.ConfigurationPage() {
		t.Error("docs/configuration.md is not what the options give: run `make generate`")
	}
}

// TestEveryOptionIsWhole: its default is allowed, it is described, and what the platform itself acts on has a getter of its name.
func TestEveryOptionIsWhole(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	getters := reflect.TypeFor[*catalog.Config]()
	seen := map[string]bool{}
	for _, o := range c.Admin.Must(t, "ListGlobalConfigs", P{"ConfigType": "All"}).Infos() {
		key := o.String("ConfigKey")
		if seen[key] || o.String("Description") == "" || o.Int("ConfigPosition") != len(seen)+1 || o.String("CategoryName") == "" {
			t.Errorf("option: %v", o)
		}
		seen[key] = true
		if _, found := getters.MethodByName(key); !found && o.String("ConfigType") != "Branding" && !strings.HasPrefix(key, "Mail") {
			t.Errorf("nothing can ask for %s", key)
		}
		if value := o.String("ConfigValue"); value != "" && o.String("Editable") == "Yes" {
			c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": key, "ConfigValue": value})
		}
	}
	if len(seen) < 45 {
		t.Errorf("%d options", len(seen))
	}
	c.Admin.Refuse(t, retcode.InvalidParameter, "ListGlobalConfigs", P{"ConfigType": "Nonsense"})
}

// TestEveryOptionIsFelt: what an option says is asked for outside the catalogue, so that setting it changes something.
func TestEveryOptionIsFelt(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "config.go" {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	getters := reflect.TypeFor[*catalog.Config]()
	for i := range getters.NumMethod() {
		name := getters.Method(i).Name
		// On the configuration itself, or a name for it.
		if found, err := regexp.MatchString(`\b(Config|config|k)\.`+name+`\b`, source.String()); err != nil || !found {
			t.Errorf("nobody asks for %s", name)
		}
	}
}

func TestConfiguration(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		ctx, config := t.Context(), c.Catalog.Config
		get := func(name, key string) string {
			t.Helper()
			return controllertest.Info(c.Demo.Must(t, name, P{"ConfigKey": key}).Body["Info"].(map[string]any)).String("ConfigValue")
		}
		set := func(key string, value any) {
			c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": key, "ConfigValue": value})
		}

		// The default, the platform's value, the region's own, and back.
		if get("GetConfig", "SnapshotsPerDisk") != "10" || config.SnapshotsPerDisk(ctx, "cn") != 10 {
			t.Error("default")
		}
		set("SnapshotsPerDisk", 0)
		if get("GetRegionConfig", "SnapshotsPerDisk") != "0" || config.SnapshotsPerDisk(ctx, "cn") != 0 {
			t.Error("the platform's value is not felt at once")
		}
		c.Admin.Must(t, "UpdateRegionConfig", P{"ConfigKey": "SnapshotsPerDisk", "ConfigValue": "200"})
		if get("GetConfig", "SnapshotsPerDisk") != "0" || get("GetRegionConfig", "SnapshotsPerDisk") != "200" || config.SnapshotsPerDisk(ctx, "cn") != 200 || config.SnapshotsPerDisk(ctx, "moon") != 0 {
			t.Error("a region's own value")
		}
		for _, i := range c.Admin.Must(t, "ListRegionConfigs", P{"ConfigType": "Product"}).Infos() {
			if i.String("ConfigKey") == "SnapshotsPerDisk" && i.String("ConfigValue") != "200" {
				t.Errorf("a region's list: %v", i)
			}
		}
		c.Admin.Must(t, "UpdateRegionConfig", P{"ConfigKey": "SnapshotsPerDisk"})
		c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "SnapshotsPerDisk"})
		if get("GetRegionConfig", "SnapshotsPerDisk") != "10" {
			t.Error("the default again")
		}

		for _, name := range []string{"GetConfig", "GetRegionConfig"} {
			c.Demo.Refuse(t, retcode.ConfigNotFound, name, P{"ConfigKey": "Nonsense"})
		}
		for _, name := range []string{"UpdateConfig", "UpdateRegionConfig"} {
			c.Admin.Refuse(t, retcode.ConfigNotFound, name, P{"ConfigKey": "Nonsense", "ConfigValue": "1"})
			c.Demo.Refuse(t, retcode.AdminOnly, name, P{"ConfigKey": "SnapshotsPerDisk", "ConfigValue": "1"})
			c.Admin.Refuse(t, retcode.ConfigNotEditable, name, P{"ConfigKey": "SystemID", "ConfigValue": "1"})
		}
		c.Admin.Refuse(t, retcode.ConfigNotEditable, "UpdateRegionConfig", P{"ConfigKey": "Currency", "ConfigValue": "USD"})
		c.Demo.Refuse(t, retcode.ConfigNotFound, "GetRegionConfig", P{"ConfigKey": "Currency"})
		c.Demo.Refuse(t, retcode.AdminOnly, "GetConfig", P{"ConfigKey": "MailHost"})
		if id := config.SystemID(ctx); !strings.HasPrefix(id, "system-") {
			t.Errorf("identity of the installation: %q", id)
		}

		for key, wrong := range map[string][]string{
			"SnapshotsPerDisk": {"-1", "201", "1.5", "x", "0x1"}, "RecycleRetention": {"0", "360001"}, "DiskQoS": {"yes", "1"}, "Currency": {"EUR"},
			"VPCNetwork": {"10.0.0.0", "10.0.0.1/16", "172.30.0.0/16", "192.168.0.0/15", "8.0.0.0/8", "10.0.0.0/16,10.0.1.0/24", "fd00::/64", "10.0.0.0/30"},
			"DNS":        {"1.1.1.1,8.8.8.8,9.9.9.9", "x", "::1", "1.1.1.1,1.1.1.1"}, "NTPServer": {"time.example.com"}, "TimeZone": {"Mars/Olympus", "Local", "../etc/passwd"},
			"MailHost": {"a b", "-x"}, "MailSender": {"nobody", "A <a@example.com>"}, "MailSubjectPrefix": {strings.Repeat("x", 61)}, "ConfigBackup": {"25:00"},
			"Title": {strings.Repeat("x", 201)}, "Logo": {"x", "AAAA"}, "LoginTitleColour": {"pink"}, "MailPort": {"65536"},
		} {
			for _, w := range wrong {
				c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateConfig", P{"ConfigKey": key, "ConfigValue": w})
			}
		}
		set("VPCNetwork", "10.0.0.0/8, 172.29.0.0/16")
		if got := config.VPCNetwork(ctx, "cn"); !reflect.DeepEqual(got, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.29.0.0/16")}) {
			t.Errorf("networks: %v", got)
		}
		set("DNS", "1.1.1.1,9.9.9.9")
		if got := config.DNS(ctx, "cn"); len(got) != 2 || got[1].String() != "9.9.9.9" {
			t.Errorf("name servers: %v", got)
		}
		set("TimeZone", "Europe/Berlin")
		if config.TimeZone(ctx, "cn").String() != "Europe/Berlin" || config.RecycleRetention(ctx, "cn") != 100*time.Hour || config.IdleLogout(ctx) != 30*time.Minute {
			t.Error("times")
		}

		// The mail password is kept sealed and never answered.
		set("MailPassword", "s3cret-of-mail")
		m, err := config.Mail(ctx)
		if err != nil || m.Password != "s3cret-of-mail" || m.Port != 994 || !m.SSL {
			t.Errorf("mail: %v %v", m, err)
		}
		for _, r := range []controllertest.Response{c.Admin.Must(t, "GetConfig", P{"ConfigKey": "MailPassword"}), c.Admin.Must(t, "ListGlobalConfigs", P{"ConfigType": "System"})} {
			if strings.Contains(fmt.Sprint(r.Body), "s3cret") {
				t.Errorf("the mail password is answered: %v", r.Body)
			}
		}
		var kept string
		if err := db.Reader().NewRaw(`SELECT value FROM config WHERE key = 'MailPassword'`).Scan(ctx, &kept); err != nil || kept == "" || strings.Contains(kept, "s3cret") {
			t.Errorf("kept as %q %v", kept, err)
		}

		// Another service on the same database feels a change within a second.
		other := catalog.New(catalog.Deps{DB: db, Clock: c.Clock}).Config
		if other.InnerBandwidth(ctx, "cn") != 1000 {
			t.Error("default elsewhere")
		}
		set("InnerBandwidth", 500)
		start := time.Now()
		controllertest.Eventually(t, 3*time.Second, "the change is felt elsewhere", func() bool { return other.InnerBandwidth(ctx, "cn") == 500 })
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("felt elsewhere after %v", took)
		}
		// Without the database the values go on holding.
		db.SetDown(true)
		if other.InnerBandwidth(ctx, "cn") != 500 || config.VPCNetwork(ctx, "cn")[0].Bits() != 8 {
			t.Error("values without the database")
		}
		db.SetDown(false)
	})
}

func TestPictures(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	picture := func(w, h int) string {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(b.Bytes())
	}
	icon := func(side byte) string {
		b := binary.LittleEndian.AppendUint16(nil, 0)
		b = binary.LittleEndian.AppendUint16(b, 1)
		b = binary.LittleEndian.AppendUint16(b, 1)
		b = append(b, side, side, 0, 0, 1, 0, 32, 0)
		b = binary.LittleEndian.AppendUint32(b, 4)
		b = binary.LittleEndian.AppendUint32(b, 22)
		return base64.StdEncoding.EncodeToString(append(b, "data"...))
	}
	c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "Logo", "ConfigValue": picture(352, 72)})
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateConfig", P{"ConfigKey": "Logo", "ConfigValue": picture(353, 72)})
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateConfig", P{"ConfigKey": "Logo", "ConfigValue": icon(48)})
	c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "Favicon", "FileBytes": icon(48)})
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateConfig", P{"ConfigKey": "Favicon", "FileBytes": icon(64)})
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateConfig", P{"ConfigKey": "Favicon", "FileBytes": picture(48, 48)})
	got := controllertest.Info(c.Demo.Must(t, "GetConfig", P{"ConfigKey": "Favicon"}).Body["Info"].(map[string]any))
	if got.String("FileBytes") != icon(48) || got.String("ConfigValue") != "" {
		t.Errorf("a picture: %v", got)
	}
}

func TestSwitchesAreFelt(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	set := func(key string, value any) {
		c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": key, "ConfigValue": value})
	}
	eip := func() P {
		return P{"Name": "e", "ChargeType": "Month", "Bandwidth": 1, "OperatorName": "Bgp", "Count": 10}
	}

	// Quotas.
	c.Demo.Must(t, "AllocateEIP", eip())
	c.Demo.Refuse(t, retcode.QuotaExceeded, "AllocateEIP", eip())
	set("QuotaEnforced", false)
	id := c.Demo.Must(t, "AllocateEIP", eip()).String("EIPID")
	if n, _ := used(t, c.Catalog, c.Demo.Company, catalog.EIP); n != 20 {
		t.Errorf("%d counted without enforcement", n)
	}
	set("QuotaEnforced", true)
	c.Demo.Refuse(t, retcode.QuotaExceeded, "AllocateEIP", eip())

	// Deletion.
	controllertest.Eventually(t, time.Minute, "the address is free", func() bool {
		return c.Demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{id}}).Infos()[0].String("Status") == "Free"
	})
	set("DeletionAllowed", false)
	vpc := c.Demo.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
	for name, p := range map[string]P{
		"ReleaseEIP": {"EIPID": id}, "DeleteVMInstance": {"VMID": "vm-1"}, "TerminateResource": {"ResourceID": id},
	} {
		c.Demo.Refuse(t, retcode.DeletionProtected, name, p)
	}
	c.Demo.Must(t, "DescribeVPC", P{"VPCIDs": []string{vpc}})
	set("DeletionAllowed", true)
	c.Admin.Must(t, "UpdateRegionConfig", P{"ConfigKey": "DeletionAllowed", "ConfigValue": false})
	c.Demo.Refuse(t, retcode.DeletionProtected, "ReleaseEIP", P{"EIPID": id})
	c.Admin.Must(t, "ReleaseEIP", P{"EIPID": id, "CompanyID": c.Demo.Company}) // administrators may
	c.Admin.Must(t, "UpdateRegionConfig", P{"ConfigKey": "DeletionAllowed"})

	// The language of an account that names none.
	c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "Language", "ConfigValue": "en"})
	for name, language := range map[string]string{"english": "", "chinese": "zh"} {
		id := c.Demo.Must(t, "CreateSubMember", P{"MemberName": name, "MemberEmail": name + "@example.com", "Password": "Secret-123456", "Language": language}).Int("MemberID")
		for _, i := range c.Demo.Must(t, "DescribeMember", nil).Infos() {
			if want := cmp.Or(language, "en"); i.Int("MemberID") == id && i.String("Language") != want {
				t.Errorf("mails to %s: %v", name, i)
			}
		}
	}

	// Prices.
	quote := func() catalog.Money {
		m, err := c.Catalog.Quote(t.Context(), c.DB.Reader(), c.Demo.Company, "cn", "Month", 1, []catalog.Item{catalog.DiskItem("StorageSetA", 10)})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	set("BillingEnabled", false)
	if quote() != 0 {
		t.Error("a price without billing")
	}
	set("BillingEnabled", true)
	if quote() != 5*catalog.Yuan {
		t.Error("a price with billing")
	}
}
