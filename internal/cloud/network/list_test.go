package network

import (
	"context"
	"fmt"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// TestLongLists reads pages of lists of 10,000: the newest first, and those of one moment in an order of their own.
func TestLongLists(t *testing.T) {
	const rows = 10_000
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		vpc, _, _ := f.network(t)
		var segment Segment
		must(t, f.DB.Reader().NewSelect().Model(&segment).Scan(t.Context()))
		id := func(kind string, i int) string { return fmt.Sprintf("%s-%05d", kind, i) }
		var vpcs []VPC
		var groups []Group
		var eips []EIP
		for i := range rows {
			at := int64(1 + i/7) // several of one moment
			vpcs = append(vpcs, VPC{ID: id("vpc", i), Region: region, Company: company, Name: "net", CIDR: vpc.CIDR, State: Available, CreatedAt: at})
			groups = append(groups, Group{ID: id("sg", i), Region: region, Company: company, Name: "group", State: Available, CreatedAt: at})
			eips = append(eips, EIP{ID: id("eip", i), Region: region, Company: company, Name: "web", SegmentID: segment.ID, IPVersion: IPv4, IP: fmt.Sprint("198.51.100.", i%200), Num: int64(i), State: Free, Listed: true, CreatedAt: at})
		}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			for i := 0; i < rows; i += 500 {
				v, g, e := vpcs[i:i+500], groups[i:i+500], eips[i:i+500]
				for _, model := range []any{&v, &g, &e} {
					if _, err := tx.NewInsert().Model(model).Exec(ctx); err != nil {
						return err
					}
				}
			}
			return nil
		})
		for kind, list := range map[string]func(p action.Page) (ids []string, total int, err error){
			"vpc": func(p action.Page) (ids []string, total int, err error) {
				r, err := f.describeVPC(t.Context(), call("DescribeVPC"), &describeVPCRequest{Keyword: "NET", Page: p})
				if err == nil {
					ids, total = column(r.Infos, func(i *vpcInfo) string { return i.VPCID }), r.TotalCount
				}
				return ids, total, err
			},
			"sg": func(p action.Page) (ids []string, total int, err error) {
				r, err := f.describeSecurityGroup(t.Context(), call("DescribeSecurityGroup"), &describeSecurityGroupRequest{Keyword: "GROUP", Page: p})
				if err == nil {
					ids, total = column(r.Infos, func(i *groupInfo) string { return i.SGID }), r.TotalCount
				}
				return ids, total, err
			},
			"eip": func(p action.Page) (ids []string, total int, err error) {
				r, err := f.describeEIP(t.Context(), call("DescribeEIP"), &describeEIPRequest{IPVersion: IPv4, Page: p})
				if err == nil {
					ids, total = column(r.Infos, func(i *eipInfo) string { return i.EIPID }), r.TotalCount
				}
				return ids, total, err
			},
		} {
			for _, offset := range []int{0, 100, 4_321, rows - 100, rows - 30, rows, rows + 100} {
				ids, total, err := list(action.Page{Offset: offset, Limit: 100})
				must(t, err)
				if total != rows {
					t.Fatalf("%s: %d in all", kind, total)
				}
				if want := min(100, rows-offset); len(ids) != max(0, want) {
					t.Fatalf("%s: %d at %d", kind, len(ids), offset)
				}
				for i, got := range ids {
					if want := id(kind, rows-1-offset-i); got != want {
						t.Fatalf("%s: %s at %d, want %s", kind, got, offset+i, want)
					}
				}
			}
		}
	})
}
