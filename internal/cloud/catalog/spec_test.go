package catalog_test

import (
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestSpecificationsAreEdited(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		list := func(p P) []controllertest.Info {
			t.Helper()
			return c.Demo.Must(t, "DescribeProductSpecification", p).Infos()
		}
		pairs := list(P{"SpecificationName": "CPUMemory"})
		if len(pairs) != 8 || pairs[0].String("Value") != "1C1G" || pairs[0].String("Default") != "Yes" || pairs[1].String("Default") != "No" || pairs[0].String("SetType") != "ComputeSetA" {
			t.Fatalf("pairs: %v", pairs)
		}
		if all := list(nil); len(all) != 11 {
			t.Errorf("%d specifications", len(all))
		}
		create := func(value string) P {
			return P{"ResourceType": "VM", "SetType": "ComputeSetA", "SpecificationName": "CPUMemory", "Value": value}
		}
		price := P{"VMType": "ComputeSetA", "CPU": 6, "Memory": 12288}
		if err := c.Catalog.CheckVMSpec(t.Context(), "cn", "ComputeSetA", 6, 12288); retcode.Of(err) != retcode.VMSpecUnavailable {
			t.Errorf("%v before it is offered: %v", price, err)
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "CreateProductSpecification", create("6C12G"))
		id := c.Admin.Must(t, "CreateProductSpecification", create("6C12G")).String("SpecificationID")
		if err := c.Catalog.CheckVMSpec(t.Context(), "cn", "ComputeSetA", 6, 12288); err != nil {
			t.Error(err)
		}
		c.Admin.Refuse(t, retcode.SpecificationDuplicated, "CreateProductSpecification", create("6C12G"))
		c.Admin.Must(t, "CreateProductSpecification", create("240C1024G"))
		for _, wrong := range []string{"3C4G", "2C3G", "242C4G", "2C1026G"} {
			c.Admin.Refuse(t, retcode.InvalidParameter, "CreateProductSpecification", create(wrong))
		}
		for _, wrong := range []string{"x", "0C1G", "2C4", "2c4g", "-2C4G"} {
			c.Admin.Refuse(t, retcode.InvalidParameterFormat, "CreateProductSpecification", create(wrong))
		}
		for code, p := range map[retcode.Code]P{
			retcode.SpecificationTemplateNotFound: {"SpecificationName": "Soul"}, retcode.SetTypeNotFound: {"SetType": "Nowhere"},
			retcode.InvalidParameter: {"SpecificationName": "DiskSpace", "ResourceType": "DISK", "SetType": "StorageSetA", "Value": "10-20"},
		} {
			q := create("2C2G")
			for k, v := range p {
				q[k] = v
			}
			c.Admin.Refuse(t, code, "CreateProductSpecification", q)
		}
		c.Admin.Refuse(t, retcode.SpecificationDuplicated, "UpdateProductSpecification", P{"SpecificationID": id, "Value": "2C4G"})
		c.Admin.Must(t, "UpdateProductSpecification", P{"SpecificationID": id, "Value": "10C20G"})
		if got := list(P{"SpecificationIDs": []string{id}}); len(got) != 1 || got[0].String("Value") != "10C20G" {
			t.Errorf("updated: %v", got)
		}
		for _, unknown := range []string{"spec-nothing", "DISK:Nowhere", ":", "SOUL:StorageSetA"} {
			c.Admin.Refuse(t, retcode.SpecificationNotFound, "UpdateProductSpecification", P{"SpecificationID": unknown, "Value": "2C4G"})
		}
		c.Admin.Refuse(t, retcode.SpecificationNotFound, "DeleteProductSpecification", P{"SpecificationID": "spec-nothing"})
		c.Admin.Refuse(t, retcode.InvalidParameter, "DeleteProductSpecification", P{"SpecificationID": pairs[0].String("SpecificationID")})
		c.Admin.Must(t, "DeleteProductSpecification", P{"SpecificationID": id})
		c.Admin.Refuse(t, retcode.SpecificationNotFound, "DeleteProductSpecification", P{"SpecificationID": id})

		// Ranges come with their sets and are narrowed within the widest.
		disk := list(P{"SpecificationName": "DiskSpace"})[0]
		if disk.String("Value") != "10-32000" || disk.String("SetType") != "StorageSetA" {
			t.Errorf("range: %v", disk)
		}
		rangeID := disk.String("SpecificationID")
		c.Admin.Refuse(t, retcode.InvalidParameter, "DeleteProductSpecification", P{"SpecificationID": rangeID})
		for _, wrong := range []string{"9-100", "10-32001", "20-10"} {
			c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateProductSpecification", P{"SpecificationID": rangeID, "Value": wrong})
		}
		c.Admin.Refuse(t, retcode.InvalidParameterFormat, "UpdateProductSpecification", P{"SpecificationID": rangeID, "Value": "many"})
		c.Admin.Must(t, "UpdateProductSpecification", P{"SpecificationID": rangeID, "Value": "20-500"})
		if got := list(P{"Keyword": "20-500"}); len(got) != 1 || got[0].String("SpecificationID") != rangeID {
			t.Errorf("narrowed: %v", got)
		}
		if err := c.Catalog.CheckDiskSpec(t.Context(), "cn", "StorageSetA", 501); retcode.Of(err) != retcode.DiskSpecOutOfRange {
			t.Errorf("beyond the narrowed range: %v", err)
		}
		if n := c.Demo.Must(t, "DescribeProductSpecificationTemplate", nil).Int("TotalCount"); n != 4 {
			t.Errorf("%d templates", n)
		}
		one := c.Demo.Must(t, "DescribeProductSpecificationTemplate", P{"ResourceType": "EIP"}).Infos()
		if len(one) != 1 || one[0].String("AllowedValues") != "1-10000" {
			t.Errorf("template: %v", one)
		}
	})
}
