package catalog

// Groups of options, as ConfigType names them.
const (
	groupLogin    = "Login"
	groupSystem   = "System"
	groupBilling  = "Billing"
	groupProduct  = "Product"
	groupBranding = "Branding"
)

// groups in the order in which they are shown, with their names.
var groups = []struct{ id, en, zh string }{
	{groupLogin, "Accounts and login", "账号与登录"},
	{groupSystem, "System services", "系统服务"},
	{groupBilling, "Billing policy", "计费策略"},
	{groupProduct, "Product policy", "产品策略"},
	{groupBranding, "Branding", "外观"},
}

// Types of values, as ValueType names them.
const (
	truth     = "Bool"
	number    = "Int"
	text      = "String"
	choice    = "Enum"
	secrecy   = "Secret"    // never answered
	picture   = "File"      // base64
	networks  = "CIDRs"     // comma separated
	addresses = "Addresses" // comma separated, may be empty
)

// option is an item of the configuration.
type option struct {
	Key      string
	Group    string
	Type     string
	Default  string
	Min, Max int64    // of a number; of a text's or picture's bytes the most
	Choices  []string // of an enumeration
	Unit     string
	Regional bool // a region may have a value of its own
	Tenants  bool // every account may read it
	Fixed    bool // nobody may edit it
	// Check refuses values that fit the type and not the option; its text is for people.
	Check func(value string) error
	// Width and Height are the most pixels of a picture, Formats what it may be.
	Width, Height int
	Formats       []string
	EN, ZH        string // what it does
}

var pictures = []string{"png", "jpeg"}

// options is the whole configuration. Its order is that of the pages.
var options = []option{
	{Key: "FreezeAfterFailures", Group: groupLogin, Type: truth, Default: "false",
		EN: "Freeze an account after 6 wrong passwords in a row; an administrator unfreezes it.", ZH: "连续 6 次密码错误后冻结账号，由管理员解冻"},
	{Key: "LoginLock", Group: groupLogin, Type: number, Default: "15", Min: 15, Max: 1440, Unit: "min",
		EN: "How long an address and account wait after repeated wrong passwords.", ZH: "多次密码错误后禁止登录的时长"},
	{Key: "PasswordLifetime", Group: groupLogin, Type: number, Default: "90", Min: 1, Max: 3650, Unit: "day", Tenants: true,
		EN: "Age at which a password expires.", ZH: "密码有效期"},
	{Key: "ForcePasswordChange", Group: groupLogin, Type: truth, Default: "true",
		EN: "An expired password must be changed at the next login.", ZH: "密码过期后下次登录必须修改"},
	{Key: "ConcurrentLogin", Group: groupLogin, Type: truth, Default: "true",
		EN: "One account may have several sessions; off: a new login ends the older ones.", ZH: "允许同一账号同时多处登录；关闭后新登录会使旧会话失效"},
	{Key: "IdleLogout", Group: groupLogin, Type: number, Default: "30", Min: 15, Max: 1440, Unit: "min", Tenants: true,
		EN: "A session without calls ends after this time.", ZH: "会话无操作自动退出的时长"},
	{Key: "PasswordMinLength", Group: groupLogin, Type: number, Default: "6", Min: 6, Max: 30, Unit: "char", Tenants: true,
		EN: "Least length of an account's password.", ZH: "账号密码最小长度"},
	{Key: "PasswordClasses", Group: groupLogin, Type: number, Default: "2", Min: 1, Max: 4, Tenants: true,
		EN: "How many of upper case, lower case, digits and specials an account's password has at least.", ZH: "账号密码至少包含大写、小写、数字、特殊字符中的几类"},
	{Key: "ForceWeakPasswordChange", Group: groupLogin, Type: truth, Default: "false",
		EN: "A password that breaks today's rules must be changed at the next login.", ZH: "现有密码不符合规则时下次登录必须修改"},
	{Key: "SelfRegistration", Group: groupLogin, Type: truth, Default: "false", Tenants: true,
		EN: "Anybody may register a tenant.", ZH: "开放自助注册"},
	{Key: "MailedCodes", Group: groupLogin, Type: truth, Default: "false", Tenants: true,
		EN: "Registering, and changing one's e-mail, need a code that is mailed to the address.", ZH: "注册和修改邮箱需要邮件验证码"},
	{Key: "MailFactor", Group: groupLogin, Type: truth, Default: "false",
		EN: "A mailed code is the second factor of accounts without TOTP.", ZH: "未绑定 TOTP 的账号以邮件验证码作为登录第二因素"},

	{Key: "SystemID", Group: groupSystem, Type: text, Fixed: true,
		EN: "Identity of this installation; licences are issued for it.", ZH: "本平台的标识，授权文件据此签发"},
	{Key: "MailHost", Group: groupSystem, Type: text, Max: 253, Check: checkHost,
		EN: "Mail server; empty: no mail is sent.", ZH: "邮件服务器；为空则不发送邮件"},
	{Key: "MailPort", Group: groupSystem, Type: number, Default: "994", Min: 0, Max: 65535,
		EN: "Port of the mail server.", ZH: "邮件服务器端口"},
	{Key: "MailSSL", Group: groupSystem, Type: truth, Default: "true",
		EN: "Speak TLS from the first byte; off: STARTTLS where the server offers it.", ZH: "使用 SSL 连接；关闭时在服务器支持时使用 STARTTLS"},
	{Key: "MailSender", Group: groupSystem, Type: text, Max: 254, Check: checkMail,
		EN: "Address that mails come from, also the login name.", ZH: "发件人地址，同时是登录名"},
	{Key: "MailPassword", Group: groupSystem, Type: secrecy, Max: 200,
		EN: "Password of the sender; kept sealed, never answered.", ZH: "发件人密码；加密保存，不会返回"},
	{Key: "MailSubjectPrefix", Group: groupSystem, Type: text, Default: "[Lingyun]", Max: 60, Check: checkLine,
		EN: "Begins the subject of every mail.", ZH: "邮件主题前缀"},
	{Key: "NTPServer", Group: groupSystem, Type: addresses, Max: 1,
		EN: "Time server that the clocks of the controller and the hosts are held against; it must answer.", ZH: "用于核对平台与物理机时钟的时间服务器，须可达"},
	{Key: "DatabaseBackup", Group: groupSystem, Type: choice, Default: "Hourly", Choices: []string{"Off", "Hourly", "Daily", "Weekly", "Monthly"},
		EN: "How often the platform's database is backed up.", ZH: "平台数据库备份周期"},
	{Key: "DatabaseBackupRetention", Group: groupSystem, Type: number, Default: "10", Min: 1, Max: 99999, Unit: "day",
		EN: "How long backups of the database are kept.", ZH: "平台数据库备份保留天数"},
	{Key: "ConfigBackup", Group: groupSystem, Type: text, Default: "01:20", Max: 5, Check: checkTimeOfDay,
		EN: "Time of day at which the configuration is backed up.", ZH: "平台配置每日备份时间"},
	{Key: "AuditRetention", Group: groupSystem, Type: number, Default: "180", Min: 1, Max: 3650, Unit: "day",
		EN: "How long entries of the audit log are kept.", ZH: "操作日志保留天数"},
	{Key: "DNS", Group: groupSystem, Type: addresses, Max: 2, Regional: true,
		EN: "Name servers that subnets get which name none; empty: those that the server was started with.", ZH: "子网未指定时使用的 DNS；为空则使用平台启动时的设置"},
	{Key: "TimeZone", Group: groupSystem, Type: text, Default: "Asia/Shanghai", Max: 60, Regional: true, Tenants: true, Check: checkTimeZone,
		EN: "Time zone of timers and calendar months.", ZH: "定时器与自然月使用的时区"},

	{Key: "BillingEnabled", Group: groupBilling, Type: truth, Default: "true", Tenants: true,
		EN: "Off: all prices are zero; orders and transactions are still written.", ZH: "关闭后所有价格为 0，仍会产生订单与交易"},
	{Key: "AutoRenew", Group: groupBilling, Type: truth, Default: "true", Tenants: true,
		EN: "Resources whose order says so renew by themselves.", ZH: "允许资源到期自动续费"},
	{Key: "Currency", Group: groupBilling, Type: choice, Default: "CNY", Choices: []string{"CNY", "USD"}, Tenants: true,
		EN: "Currency that amounts are shown in.", ZH: "显示的币种"},
	{Key: "Language", Group: groupBilling, Type: choice, Default: "zh", Choices: []string{"zh", "en"}, Tenants: true,
		EN: "Language of mails, and of the console until somebody chooses.", ZH: "邮件及控制台的默认语言"},

	{Key: "DiskQoS", Group: groupProduct, Type: truth, Default: "true", Regional: true, Tenants: true,
		EN: "Limit rate and operations of disks.", ZH: "启用云硬盘 QoS"},
	{Key: "VPCNetwork", Group: groupProduct, Type: networks, Default: "10.0.0.0/16,172.16.0.0/16,192.168.0.0/16", Max: 16, Regional: true, Tenants: true, Check: checkVPCNetwork,
		EN: "Networks that VPCs are made in: within 10.0.0.0/8, and within 172.16.0.0 to 172.29.255.255 and 192.168.0.0/16 from mask 16.",
		ZH: "VPC 可用网段：10.0.0.0/8 之内，以及 172.16-172.29、192.168 之内掩码不小于 16"},
	{Key: "InnerBandwidth", Group: groupProduct, Type: number, Default: "1000", Min: 0, Max: 8192, Unit: "Mbps", Regional: true, Tenants: true,
		EN: "Bandwidth of a machine in its VPC; 0: no limit.", ZH: "虚拟机内网带宽；0 为不限制"},
	{Key: "SnapshotsPerDisk", Group: groupProduct, Type: number, Default: "10", Min: 0, Max: 200, Regional: true, Tenants: true,
		EN: "Snapshots that a disk may have; 0: no limit.", ZH: "每块硬盘的快照数；0 为不限制"},
	{Key: "SharedDiskAttachments", Group: groupProduct, Type: number, Default: "16", Min: 2, Max: 30, Regional: true, Tenants: true,
		EN: "Machines that a shared disk may be attached to.", ZH: "共享硬盘可挂载的虚拟机数"},
	{Key: "VMPasswordMinLength", Group: groupProduct, Type: number, Default: "6", Min: 6, Max: 30, Unit: "char", Regional: true, Tenants: true,
		EN: "Least length of a machine's password.", ZH: "虚拟机密码最小长度"},
	{Key: "VMPasswordClasses", Group: groupProduct, Type: number, Default: "2", Min: 1, Max: 4, Regional: true, Tenants: true,
		EN: "How many of upper case, lower case, digits and specials a machine's password has at least.", ZH: "虚拟机密码至少包含大写、小写、数字、特殊字符中的几类"},
	{Key: "DeletionAllowed", Group: groupProduct, Type: truth, Default: "true", Regional: true, Tenants: true,
		EN: "Tenants may delete and destroy resources; off: 209.", ZH: "允许租户删除资源；关闭后返回 209"},
	{Key: "RecycleAutoDestroy", Group: groupProduct, Type: truth, Default: "true", Regional: true, Tenants: true,
		EN: "Destroy what outlived its retention in the recycle bin.", ZH: "回收站资源到期自动销毁"},
	{Key: "RecycleRetention", Group: groupProduct, Type: number, Default: "360000", Min: 1, Max: 360000, Unit: "s", Regional: true, Tenants: true,
		EN: "How long the recycle bin keeps a resource.", ZH: "回收站保留时长"},
	{Key: "ExpiredToRecycle", Group: groupProduct, Type: truth, Default: "true", Regional: true, Tenants: true,
		EN: "Resources that expired 7 days ago go to the recycle bin.", ZH: "过期 7 天的资源进入回收站"},
	{Key: "QuotaEnforced", Group: groupProduct, Type: truth, Default: "true", Regional: true, Tenants: true,
		EN: "Refuse what exceeds a quota; off: quotas are counted only.", ZH: "启用配额限制；关闭后只统计不限制"},
	{Key: "InstanceStatusCheck", Group: groupProduct, Type: truth, Default: "false", Regional: true, Tenants: true,
		EN: "Show tenants that a machine migrates or is taken over.", ZH: "向租户显示热迁移与故障迁移状态"},

	{Key: "Favicon", Group: groupBranding, Type: picture, Max: 100 << 10, Width: 48, Height: 48, Formats: []string{"ico"}, Tenants: true,
		EN: "Icon of the browser's tab.", ZH: "浏览器图标"},
	{Key: "Title", Group: groupBranding, Type: text, Default: "Lingyun", Max: 200, Check: checkLine, Tenants: true,
		EN: "Title of the browser's tab.", ZH: "浏览器标题"},
	{Key: "Logo", Group: groupBranding, Type: picture, Max: 200 << 10, Width: 352, Height: 72, Formats: pictures, Tenants: true,
		EN: "Logo at the top of the console.", ZH: "控制台标志"},
	{Key: "LoginBackground", Group: groupBranding, Type: picture, Max: 500 << 10, Width: 10000, Height: 10000, Formats: pictures, Tenants: true,
		EN: "Picture behind the login box.", ZH: "登录页背景"},
	{Key: "LoginTitle", Group: groupBranding, Type: text, Default: "Lingyun", Max: 200, Check: checkLine, Tenants: true,
		EN: "Title of the login page.", ZH: "登录页标题"},
	{Key: "LoginTitleColour", Group: groupBranding, Type: choice, Default: "black", Tenants: true,
		Choices: []string{"white", "black", "red", "yellow", "green", "cyan", "blue", "brown", "purple", "orange", "grey", "gold"},
		EN:      "Colour of that title.", ZH: "登录页标题颜色"},
	{Key: "LoginLogo", Group: groupBranding, Type: picture, Max: 200 << 10, Width: 352, Height: 72, Formats: pictures, Tenants: true,
		EN: "Logo of the login page.", ZH: "登录页标志"},
	{Key: "LoginPhone", Group: groupBranding, Type: text, Max: 60, Check: checkLine, Tenants: true,
		EN: "Telephone number on the login page.", ZH: "登录页电话"},
	{Key: "LoginCopyright", Group: groupBranding, Type: text, Max: 200, Check: checkLine, Tenants: true,
		EN: "Copyright line of the login page.", ZH: "登录页版权信息"},
	{Key: "LoginDescription", Group: groupBranding, Type: text, Max: 2000, Tenants: true,
		EN: "Text beside the login box; hidden when the box is in the centre.", ZH: "登录页描述；登录框居中时不显示"},
	{Key: "LoginBoxPosition", Group: groupBranding, Type: choice, Default: "right", Choices: []string{"left", "centre", "right"}, Tenants: true,
		EN: "Where the login box is.", ZH: "登录框位置"},
	{Key: "LoginBoxTransparency", Group: groupBranding, Type: number, Default: "0", Min: 0, Max: 100, Unit: "%", Tenants: true,
		EN: "How transparent the login box is.", ZH: "登录框透明度"},
	{Key: "ScreenTitle", Group: groupBranding, Type: text, Default: "Lingyun", Max: 200, Check: checkLine, Tenants: true,
		EN: "Title of the big screen.", ZH: "大屏标题"},
	{Key: "ScreenBareMetal", Group: groupBranding, Type: truth, Default: "false", Tenants: true,
		EN: "Show the bare-metal panel on the big screen.", ZH: "大屏显示物理机面板"},
	{Key: "HelpLinks", Group: groupBranding, Type: truth, Default: "true", Tenants: true,
		EN: "Show links to the documentation.", ZH: "显示帮助链接"},
	{Key: "Favourites", Group: groupBranding, Type: truth, Default: "true", Tenants: true,
		EN: "Show the console's favourites.", ZH: "显示收藏夹"},
}

// optionAs returns an item of the configuration; nil when there is none.
func optionAs(key string) *option {
	for i := range options {
		if options[i].Key == key {
			return &options[i]
		}
	}
	return nil
}
