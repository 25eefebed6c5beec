package tag_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// pairs writes key, value, key, value... as the wire has them.
func pairs(texts ...string) []string {
	var out []string
	for i := 0; i < len(texts); i += 2 {
		out = append(out, base64.StdEncoding.EncodeToString([]byte(texts[i]))+":"+base64.StdEncoding.EncodeToString([]byte(texts[i+1])))
	}
	return out
}

func allocate(t *testing.T, c *controllertest.Client, tags ...string) string {
	t.Helper()
	return c.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "x", "TagKeyValuePairs": pairs(tags...)}).String("EIPID")
}

// ids lists what a list action finds by tags.
func ids(t *testing.T, c *controllertest.Client, action, id string, p P) string {
	t.Helper()
	var out []string
	for _, i := range c.Must(t, action, p).Infos() {
		out = append(out, i.String(id))
	}
	return strings.Join(out, " ")
}

func TestTags(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		demo, other := c.Demo, c.NewTenant(t)
		a := allocate(t, demo, "环境", "生产", "team", "shop")
		b := allocate(t, demo, "环境", "测试")
		allocate(t, other, "环境", "生产")

		// Lists are narrowed by any of the given tags, and show all.
		for want, p := range map[string]P{
			a:           {"TagKeyValuePairs": pairs("环境", "生产")},
			b:           {"TagKeyValuePairs": pairs("环境", "测试")},
			b + " " + a: {"TagKeyValuePairs": pairs("环境", "测试", "team", "shop")},
			"":          {"TagKeyValuePairs": pairs("Team", "shop")}, // upper and lower case differ
		} {
			if got := ids(t, demo, "DescribeEIP", "EIPID", p); got != want {
				t.Errorf("by %v: %q, want %q", p, got, want)
			}
		}
		eip := demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{a}}).Infos()[0]
		if tags := eip["Tags"].([]any); len(tags) != 2 || fmt.Sprint(tags) != "[map[Key:team Value:shop] map[Key:环境 Value:生产]]" {
			t.Errorf("tags shown: %v", tags)
		}

		// A new value of a key replaces the old one.
		demo.Must(t, "BindTag", P{"ResourceType": "EIP", "ResourceIDs": []string{a, b}, "KeyValuePairs": pairs("环境", "预发", "owner", "me")})
		if got := ids(t, demo, "DescribeTagResource", "ResourceID", P{"Key": "环境", "Value": "预发"}); got != min(a, b)+" "+max(a, b) {
			t.Errorf("resources of a tag: %q", got)
		}
		if got := ids(t, demo, "DescribeTagResource", "ResourceID", P{"Key": "环境", "Value": "生产"}); got != "" {
			t.Errorf("the replaced value is still borne by %q", got)
		}
		demo.Must(t, "UnBindTag", P{"ResourceType": "EIP", "ResourceIDs": []string{b}, "KeyValuePairs": pairs("环境", "预发")})
		demo.Must(t, "SetResourceTags", P{"ResourceType": "EIP", "ResourceID": a, "KeyValuePairs": pairs("k", "v")})
		if got := demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{a}}).Infos()[0]["Tags"]; fmt.Sprint(got) != "[map[Key:k Value:v]]" {
			t.Errorf("after setting all: %v", got)
		}

		// A tag that is borne stays; one that is not goes.
		demo.Refuse(t, retcode.InvalidResourceBizState, "DeleteTag", P{"Key": "k"})
		demo.Must(t, "DeleteTag", P{"Key": "环境", "Value": "生产"})
		demo.Refuse(t, retcode.ResourceNotFound, "DeleteTag", P{"Key": "环境", "Value": "生产"})
		counts := map[string]int{}
		for _, i := range demo.Must(t, "DescribeTag", nil).Infos() {
			counts[i.String("Key")+"="+i.String("Value")] = i.Int("ResourceCount")
		}
		if fmt.Sprint(counts) != "map[k=v:1 owner=me:1 team=shop:0 环境=测试:0 环境=预发:0]" {
			t.Errorf("tags and what bears them: %v", counts)
		}
		made := demo.Must(t, "CreateTag", P{"Key": "k", "Values": []string{"v", "w"}})
		if len(made.Body["TagIDs"].([]any)) != 2 {
			t.Errorf("ids of made tags: %v", made.Body)
		}
		if n := demo.Must(t, "DescribeBindableTagResource", P{"ResourceType": "EIP"}).Int("TotalCount"); n != 2 {
			t.Errorf("%d resources can take a tag", n)
		}

		// Others' resources, unknown kinds, wrong texts.
		for what, q := range map[string]struct {
			p    P
			code retcode.Code
		}{
			"another tenant's": {P{"ResourceType": "EIP", "ResourceIDs": []string{a}, "KeyValuePairs": pairs("k", "v")}, retcode.ResourceNotFound},
			"unknown type":     {P{"ResourceType": "Ghost", "ResourceIDs": []string{a}, "KeyValuePairs": pairs("k", "v")}, retcode.InvalidResourceType},
			"wrong type":       {P{"ResourceType": "VM", "ResourceIDs": []string{a}, "KeyValuePairs": pairs("k", "v")}, retcode.InvalidResourceType},
			"no base64":        {P{"ResourceType": "EIP", "ResourceIDs": []string{a}, "KeyValuePairs": []string{"k:v:w"}}, retcode.InvalidParameterFormat},
			"too long":         {P{"ResourceType": "EIP", "ResourceIDs": []string{a}, "KeyValuePairs": pairs("k", strings.Repeat("长", 128))}, retcode.InvalidParameter},
			"a key twice":      {P{"ResourceType": "EIP", "ResourceIDs": []string{a}, "KeyValuePairs": pairs("k", "v", "k", "w")}, retcode.InvalidParameter},
		} {
			t.Run(what, func(t *testing.T) { other.Refuse(t, q.code, "BindTag", q.p) })
		}
		var many []string
		for i := range 50 {
			many = append(many, fmt.Sprint("key", i), "v")
		}
		demo.Refuse(t, retcode.BindLimitReached, "BindTag", P{"ResourceType": "EIP", "ResourceIDs": []string{a}, "KeyValuePairs": pairs(many...)})
		demo.Refuse(t, retcode.InvalidParameter, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "x",
			"TagKeyValuePairs": pairs("1", "v", "2", "v", "3", "v", "4", "v", "5", "v", "6", "v")})

		// The bin is narrowed, too; what is destroyed bears nothing.
		demo.Must(t, "ReleaseEIP", P{"EIPID": a})
		controllertest.Eventually(t, 10*time.Second, "the address is in the bin", func() bool {
			return ids(t, demo, "DescribeRecycledResource", "ResourceID", P{"TagKeyValuePairs": pairs("k", "v")}) == a
		})
		if got := ids(t, demo, "DescribeRecycledResource", "ResourceID", P{"TagKeyValuePairs": pairs("owner", "me")}); got != "" {
			t.Errorf("in the bin with another tag: %q", got)
		}
		demo.Must(t, "TerminateResource", P{"ResourceID": a})
		controllertest.Eventually(t, 10*time.Second, "the tag is free", func() bool {
			return demo.Must(t, "DescribeTag", P{"Keys": []string{"k"}, "Keyword": "V"}).Infos()[0].Int("ResourceCount") == 0
		})
		demo.Must(t, "DeleteTag", P{"Key": "k", "Value": "v"})
	})
}
