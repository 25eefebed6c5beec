package catalog

import (
	"context"
	"net/netip"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) configActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "GetConfig", Module: "config", Region: action.RegionNone, Summary: "Return one global configuration item."}, s.getConfig),
		action.Define(action.Spec{Name: "ListGlobalConfigs", Module: "config", Region: action.RegionNone, Admin: true,
			Summary: "List global configuration items of a type."}, s.listGlobalConfigs),
		action.Define(action.Spec{Name: "UpdateConfig", Module: "config", Region: action.RegionNone, Admin: true, System: true, Mutates: true,
			Summary: "Change a global configuration item."}, s.updateConfig),
		action.Define(action.Spec{Name: "GetRegionConfig", Module: "config", Extension: true,
			Summary: "Return one configuration item of a region."}, s.getRegionConfig),
		action.Define(action.Spec{Name: "ListRegionConfigs", Module: "config", Admin: true,
			Summary: "List configuration items of a region."}, s.listRegionConfigs),
		action.Define(action.Spec{Name: "UpdateRegionConfig", Module: "config", Admin: true, Mutates: true,
			Summary: "Change a configuration item of a region."}, s.updateRegionConfig),
	}
}

type getConfigRequest struct {
	ConfigKey string `validate:"required" doc:"key of the item, see docs/configuration.md"`
}

type getConfigResponse struct{ Info configBase }

type configBase struct {
	ConfigKey   string
	ConfigValue string `doc:"empty for secrets and pictures"`
	FileBytes   string `doc:"a picture, base64"`
}

func (s *Service) getConfig(ctx context.Context, c *action.Call, q *getConfigRequest) (*getConfigResponse, error) {
	return s.configOf(ctx, c, optionAs(q.ConfigKey), q.ConfigKey)
}

// getRegionConfig knows only the items that a region may have a value of its own for.
func (s *Service) getRegionConfig(ctx context.Context, c *action.Call, q *getConfigRequest) (*getConfigResponse, error) {
	o := optionAs(q.ConfigKey)
	if o != nil && !o.Regional {
		o = nil
	}
	return s.configOf(ctx, c, o, q.ConfigKey)
}

func (s *Service) configOf(ctx context.Context, c *action.Call, o *option, key string) (*getConfigResponse, error) {
	if o == nil {
		return nil, retcode.ConfigNotFound.Errorf("ConfigKey %q", key)
	}
	if !o.Tenants && !c.Caller.Admin {
		return nil, retcode.AdminOnly.Errorf("%s is for platform administrators", o.Key)
	}
	value, file := s.shown(ctx, c.Region, o)
	return &getConfigResponse{configBase{o.Key, value, file}}, nil
}

// shown is an item's value as it is answered.
func (s *Service) shown(ctx context.Context, region string, o *option) (value, file string) {
	switch v := s.Config.value(ctx, region, o.Key); o.Type {
	case secrecy:
		return "", ""
	case picture:
		return "", v
	default:
		return v, ""
	}
}

type listConfigsRequest struct {
	ConfigType string `validate:"required" doc:"Login, System, Billing, Product or Branding; All"`
}

type listConfigsResponse struct {
	Infos      []configInfo
	TotalCount int
}

type configInfo struct {
	ConfigKey      string
	ConfigValue    string `doc:"empty for secrets and pictures, see GetConfig"`
	ConfigType     string
	ConfigPosition int
	Category       string
	CategoryName   string
	Description    string
	Hint           string
	Unit           string
	ValueType      string `doc:"Bool, Int, String, Enum, Secret, File, CIDRs, Addresses"`
	ValueRange     string
	Editable       string `doc:"Yes or No"`
}

func (s *Service) listGlobalConfigs(ctx context.Context, c *action.Call, q *listConfigsRequest) (*listConfigsResponse, error) {
	return s.configs(ctx, c, q.ConfigType, func(*option) bool { return true })
}

func (s *Service) listRegionConfigs(ctx context.Context, c *action.Call, q *listConfigsRequest) (*listConfigsResponse, error) {
	return s.configs(ctx, c, q.ConfigType, func(o *option) bool { return o.Regional })
}

func (s *Service) configs(ctx context.Context, c *action.Call, group string, want func(*option) bool) (*listConfigsResponse, error) {
	r := &listConfigsResponse{}
	known := group == "All"
	for _, g := range groups {
		if !strings.EqualFold(g.id, group) && group != "All" {
			continue
		}
		known = true
		for i := range options {
			o := &options[i]
			if o.Group != g.id || !want(o) {
				continue
			}
			info := configInfo{ConfigKey: o.Key, ConfigType: g.id, ConfigPosition: i + 1, Category: g.id, CategoryName: g.zh, Description: o.ZH,
				Unit: o.Unit, ValueType: o.Type, ValueRange: o.allowed(), Editable: "Yes"}
			if c.Language == "en" {
				info.CategoryName, info.Description = g.en, o.EN
			}
			info.ConfigValue, _ = s.shown(ctx, c.Region, o)
			if o.Fixed {
				info.Editable = "No"
			}
			if o.Default != "" {
				info.Hint = o.Default
			}
			r.Infos = append(r.Infos, info)
		}
	}
	if !known {
		return nil, retcode.InvalidParameter.Errorf("ConfigType must be out of Login, System, Billing, Product, Branding, All")
	}
	r.TotalCount = len(r.Infos)
	return r, nil
}

type updateConfigRequest struct {
	ConfigKey   string `validate:"required" doc:"key of the item, see docs/configuration.md"`
	ConfigValue string `doc:"a picture in base64; empty: the default again"`
	FileBytes   string `doc:"a picture in base64, when ConfigValue is empty"`
}

func (s *Service) updateConfig(ctx context.Context, c *action.Call, q *updateConfigRequest) (*action.Empty, error) {
	o := optionAs(q.ConfigKey)
	if o == nil {
		return nil, retcode.ConfigNotFound.Errorf("ConfigKey %q", q.ConfigKey)
	}
	if o.Fixed {
		return nil, retcode.ConfigNotEditable.Errorf("%s cannot be changed", o.Key)
	}
	if q.ConfigValue == "" && o.Type == picture {
		q.ConfigValue = q.FileBytes
	}
	return nil, s.setConfig(ctx, c, "", o, q.ConfigValue)
}

type updateRegionConfigRequest struct {
	ConfigKey   string `validate:"required" doc:"key of the item, see docs/configuration.md"`
	ConfigValue string `doc:"empty: the platform's value again"`
}

func (s *Service) updateRegionConfig(ctx context.Context, c *action.Call, q *updateRegionConfigRequest) (*action.Empty, error) {
	o := optionAs(q.ConfigKey)
	if o == nil {
		return nil, retcode.ConfigNotFound.Errorf("ConfigKey %q", q.ConfigKey)
	}
	if o.Fixed || !o.Regional {
		return nil, retcode.ConfigNotEditable.Errorf("%s holds for all regions, see UpdateConfig", o.Key)
	}
	return nil, s.setConfig(ctx, c, c.Region, o, q.ConfigValue)
}

// setConfig changes an item of the platform or of a region.
func (s *Service) setConfig(ctx context.Context, c *action.Call, region string, o *option, value string) error {
	c.AddResource(o.Key)
	if value == "" {
		return s.Config.set(ctx, region, o, nil, s.Clock.Micros())
	}
	value, err := o.parse(value)
	if err != nil {
		return err
	}
	if server, err := netip.ParseAddr(value); err == nil && o.Key == "NTPServer" && s.timeServer != nil {
		if err := s.timeServer(ctx, server); err != nil {
			return retcode.InvalidParameter.Errorf("time server %s does not answer", server).Wrap(err)
		}
	}
	return s.Config.set(ctx, region, o, &value, s.Clock.Micros())
}
