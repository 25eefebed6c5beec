package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// listing makes a command that shows a list.
func listing(use, short, action string, params func() Params, columns []column) *cobra.Command {
	return command(use, short, cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, action, params())
		if err != nil {
			return err
		}
		return s.show(all, columns)
	})
}

func nothing() Params { return Params{} }

// once makes a command that makes one call and prints nothing when it succeeds.
func once(use, short string, args cobra.PositionalArgs, call func(args []string) (string, Params)) *cobra.Command {
	return command(use, short, args, func(ctx context.Context, s *session, args []string) error {
		name, p := call(args)
		_, err := s.Call(ctx, name, p, nil)
		return err
	})
}

func configCommand() *cobra.Command {
	columns := []column{plain("Item", "ConfigKey"), plain("Value", "ConfigValue"), plain("Range", "ValueRange"), plain("Unit", "Unit"), plain("What it does", "Description")}
	var here bool
	list := command("list", "List all items", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var r struct{ Infos []object }
		name := "ListGlobalConfigs"
		if here {
			name = "ListRegionConfigs"
		}
		if _, err := s.Call(ctx, name, Params{"ConfigType": "All"}, &r); err != nil {
			return err
		}
		return s.show(r.Infos, columns)
	})
	list.Flags().BoolVar(&here, "here", false, "the region's values")
	change := func(use, short string, args cobra.PositionalArgs) *cobra.Command {
		var here bool
		cmd := once(use, short, args, func(args []string) (string, Params) {
			p := Params{"ConfigKey": args[0]}
			if len(args) > 1 {
				p["ConfigValue"] = args[1]
			}
			if here {
				return "UpdateRegionConfig", p
			}
			return "UpdateConfig", p
		})
		cmd.Flags().BoolVar(&here, "here", false, "for the region alone")
		return cmd
	}
	restore := command("restore FILE", "Set every item of a copy of the configuration again", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		var copied struct {
			Items []struct {
				Region, ConfigKey, ConfigValue string
				Sealed                         bool
			}
		}
		if err := json.Unmarshal(text, &copied); err != nil {
			return fmt.Errorf("%s is no copy of the configuration: %w", args[0], err)
		}
		for _, i := range copied.Items {
			if i.Sealed {
				fmt.Fprintf(s.err, "%s is a secret: set it by hand\n", i.ConfigKey)
				continue
			}
			name, p := "UpdateConfig", Params{"ConfigKey": i.ConfigKey, "ConfigValue": i.ConfigValue}
			if i.Region != "" {
				name, p["Region"] = "UpdateRegionConfig", i.Region
			}
			if _, err := s.Call(ctx, name, p, nil); err != nil {
				return fmt.Errorf("%s: %w", i.ConfigKey, err)
			}
		}
		return nil
	})
	var local bool
	get := command("get ITEM", "Show one item", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		var r struct{ Info object }
		name := "GetConfig"
		if local {
			name = "GetRegionConfig"
		}
		if _, err := s.Call(ctx, name, Params{"ConfigKey": args[0]}, &r); err != nil {
			return err
		}
		return s.detail(r.Info, []column{plain("Item", "ConfigKey"), plain("Value", "ConfigValue")})
	})
	get.Flags().BoolVar(&local, "here", false, "the region's value")
	return group("config", "The platform's configuration", list, restore,
		get, once("test-mail EMAIL", "Send a mail with the settings, at once", cobra.ExactArgs(1), func(a []string) (string, Params) { return "SendTestMail", Params{"Email": a[0]} }),
		change("set ITEM VALUE", "Change an item", cobra.ExactArgs(2)), change("reset ITEM", "Set an item to its default again", cobra.ExactArgs(1)))
}

func priceCommand() *cobra.Command {
	columns := []column{plain("Product", "ProductID"), plain("Set", "SetType"), plain("Name", "SetTypeAlias"), plain("By", "ChargeType"), {"Price", func(o object) string {
		var tiers []string
		all, _ := o["Infos"].([]any)
		for _, t := range all {
			if m, ok := t.(map[string]any); ok {
				tier := object(m)
				text := tier.text("Price")
				if len(all) > 1 {
					text += " above " + tier.text("LowerMultiple")
				}
				tiers = append(tiers, text)
			}
		}
		if len(tiers) == 0 {
			return "not for sale"
		}
		return strings.Join(tiers, ", ")
	}}, plain("Unit", "Unit"), {"Discount", func(o object) string { return o.text("Discount") + " %" }}}
	discounts := command("discounts TENANT", "List what a tenant pays, in percent", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		all, err := s.list(ctx, "DescribeDiscount", Params{"CompanyID": args[0]})
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("Product", "ProductID"), plain("Set", "SetType"), plain("By", "ChargeType"), plain("Percent", "Discount"), plain("Price", "Price")})
	})
	return group("price", "Prices", append(quoteCommands(), listing("list", "List prices", "DescribePrice", nothing, columns),
		once("set PRODUCT SET CHARGE-TYPE YUAN", "Set a simple price", cobra.ExactArgs(4), func(a []string) (string, Params) {
			return "UpdatePrice", Params{"ProductID": a[0], "SetType": a[1], "ChargeType": a[2], "PriceRuleInfo": fmt.Sprintf(`{"LowerMultiple":0,"UpperMultiple":0,"Price":%s}`, a[3])}
		}),
		once("withdraw PRODUCT SET CHARGE-TYPE", "Take from the market", cobra.ExactArgs(3), func(a []string) (string, Params) {
			return "UpdatePrice", Params{"ProductID": a[0], "SetType": a[1], "ChargeType": a[2], "PriceRuleInfo": "None"}
		}),
		once("discount TENANT PRODUCT SET CHARGE-TYPE PERCENT", "Set what a tenant pays, in percent", cobra.ExactArgs(5), func(a []string) (string, Params) {
			return "UpdateDiscount", Params{"CompanyID": a[0], "ProductID": a[1], "SetType": a[2], "ChargeType": a[3], "Discount": a[4]}
		}), discounts)...)
}

func specCommand() *cobra.Command {
	columns := []column{plain("ID", "SpecificationID"), plain("Specification", "SpecificationName"), plain("Set", "SetType"), plain("Value", "Value"), plain("Default", "Default")}
	return group("spec", "Sizes that are offered", listing("list", "List specifications", "DescribeProductSpecification", nothing, columns),
		listing("templates", "List what can be specified", "DescribeProductSpecificationTemplate", nothing, []column{plain("Resource", "ResourceType"), plain("Specification", "SpecificationName"),
			plain("Format", "ValueFormat"), plain("Values", "AllowedValues"), plain("Unit", "Unit"), plain("What it is", "Description")}),
		once("add VM-TYPE VALUE", "Offer CPU and memory, like 2C4G", cobra.ExactArgs(2), func(a []string) (string, Params) {
			return "CreateProductSpecification", Params{"ResourceType": "VM", "SpecificationName": "CPUMemory", "SetType": a[0], "Value": a[1]}
		}),
		once("set ID VALUE", "Change one", cobra.ExactArgs(2), func(a []string) (string, Params) {
			return "UpdateProductSpecification", Params{"SpecificationID": a[0], "Value": a[1]}
		}),
		once("delete ID", "Offer it no more", cobra.ExactArgs(1), func(a []string) (string, Params) {
			return "DeleteProductSpecification", Params{"SpecificationID": a[0]}
		}))
}

func quotaCommand() *cobra.Command {
	columns := []column{plain("Resource", "ResourceType"), plain("Factor", "FactorType"), plain("Used", "Usage"), plain("Quota", "Quota"), plain("Unit", "Unit"), {"In sets", setUsage}}
	var company string
	list := command("list", "List quotas and what is used", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var r struct{ Infos []object }
		p := Params{}
		if company != "" {
			p["CompanyID"] = company
		}
		if _, err := s.Call(ctx, "DescribeQuotaUsage", p, &r); err != nil {
			return err
		}
		return s.show(r.Infos, columns)
	})
	list.Flags().StringVar(&company, "company", "", "tenant")
	var allocation string
	set := once("set TENANT RESOURCE FACTOR VALUE", "Set a tenant's quota; tenant 0: the default", cobra.ExactArgs(4), func(a []string) (string, Params) {
		return "SetAccountQuota", Params{"CompanyID": a[0], "ResourceType": a[1], "FactorType": a[2], "Quota": a[3], "Allocation": allocation}
	})
	set.Flags().StringVar(&allocation, "allocation", "{}", `of the quota, what may be in which set: {"storage-set-01": 500}`)
	return group("quota", "Quotas", list, set,
		once("reset TENANT RESOURCE FACTOR", "Let it follow the default again", cobra.ExactArgs(3), func(a []string) (string, Params) {
			return "ResetAccountQuota", Params{"CompanyID": a[0], "ResourceType": a[1], "FactorType": a[2]}
		}))
}

// setUsage shows what of a quota is in which set.
func setUsage(o object) string {
	var parts []string
	sets, _ := o["Sets"].([]any)
	for _, one := range sets {
		if set, ok := one.(map[string]any); ok {
			s := object(set)
			parts = append(parts, s.text("SetID")+" "+s.text("Usage")+"/"+s.text("Quota"))
		}
	}
	return strings.Join(parts, ", ")
}

func licenceCommand() *cobra.Command {
	columns := []column{plain("Region", "RegionID"), plain("Licence", "LicenseID"), plain("Item", "ProductName"), plain("Type", "LicenseType"), plain("State", "State"), when("Ends", "EndTime")}
	var code string
	upload := command("upload FILE", "Install a licence", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		raw, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UploadLicense", Params{"FileBytes": base64.StdEncoding.EncodeToString(raw), "AuthCode": code}, nil)
		return err
	})
	upload.Flags().StringVar(&code, "code", "", "authorization code that came with it")
	collect := command("collect FILE", "Write what a licence is issued for to a file", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		var r struct {
			SystemID  string
			FileBytes []byte
		}
		if _, err := s.Call(ctx, "CollectLicenseInfo", nil, &r); err != nil {
			return err
		}
		fmt.Fprintln(s.out, r.SystemID)
		return os.WriteFile(args[0], r.FileBytes, 0o644)
	})
	return group("licence", "Licences of regions", listing("list", "List licences", "DescribeLicense", nothing, columns), upload, collect,
		listing("nodes", "List the hosts that licences count", "DescribeLicenseNode", nothing, []column{plain("ID", "NodeID"), plain("Name", "Name"), plain("Address", "NodeIP"), plain("CPUs", "CPU"), plain("State", "LicenseState")}))
}
